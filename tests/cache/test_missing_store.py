from pathlib import Path

import pytest

from epalm.cache.missing_store import missing_store_error
from epalm.cache.store import Store
from epalm.errors import StoreError


def test_a_store_that_does_not_exist_is_refused_with_the_names_of_its_neighbors(
    tmp_path: Path,
) -> None:
    for name in ("coco_vitb16_first200.zarr", "coco_ast.h5", "notes.txt"):
        (tmp_path / name).mkdir()
    absent = tmp_path / "coco_vitb16.zarr"
    with pytest.raises(StoreError) as refused:
        Store.open(absent)
    assert str(refused.value) == (
        f"found nothing at {absent}: run `epalm-extract` first, or correct the path; "
        f"{tmp_path} has coco_ast.h5, coco_vitb16_first200.zarr"
    )


def test_of_many_neighbors_five_are_named(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.zarr").mkdir()
    message = str(missing_store_error(str(tmp_path / "x.zarr")))
    assert message.endswith("has 0.zarr, 1.zarr, 2.zarr, 3.zarr, 4.zarr and 2 more")


@pytest.mark.parametrize("location", ["s3://bucket/x.zarr", "no/such/folder/x.zarr"])
def test_where_no_folder_can_be_listed_the_error_names_no_neighbors(location: str) -> None:
    assert str(missing_store_error(location)).endswith("or correct the path")
