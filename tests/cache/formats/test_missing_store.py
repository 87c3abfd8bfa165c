from pathlib import Path

import pytest

from epalm.cache.formats.missing_store import missing_store_error
from epalm.cache.store import Store
from epalm.errors import StoreError


def test_the_error_about_a_missing_store_names_the_stores_next_to_it(
    tmp_path: Path,
) -> None:
    for name in ("coco_vitb16_first200.zarr", "coco_ast.h5", "notes.txt"):
        (tmp_path / name).mkdir()
    absent = tmp_path / "coco_vitb16.zarr"
    with pytest.raises(StoreError) as raised:
        Store.open(absent)
    assert str(raised.value) == (
        f"found nothing at {absent}: run `epalm-extract` first, or correct the path; "
        f"{tmp_path} has coco_ast.h5, coco_vitb16_first200.zarr"
    )


def test_at_most_five_neighbors_are_named(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.zarr").mkdir()
    message = str(missing_store_error(str(tmp_path / "x.zarr")))
    assert message.endswith("has 0.zarr, 1.zarr, 2.zarr, 3.zarr, 4.zarr and 2 more")


@pytest.mark.parametrize("location", ["s3://bucket/x.zarr", "no/such/folder/x.zarr"])
def test_the_error_names_no_neighbors_if_no_folder_can_be_listed(location: str) -> None:
    assert str(missing_store_error(location)).endswith("or correct the path")
