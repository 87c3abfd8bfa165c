"""Locations in the files of a run: relative to their folder, wherever it is."""

from pathlib import Path

import pytest

from epalm.demo.encoder import WEIGHTS
from epalm.portable_path import from_portable, to_portable


@pytest.mark.parametrize("location", ["", "facebook/opt-125m", "s3://bucket/coco.zarr"])
def test_hub_ids_and_urls_are_written_as_they_are(location: str, tmp_path: Path) -> None:
    assert to_portable(location, tmp_path) == from_portable(location, tmp_path) == location


def test_a_path_moves_with_the_folders_around_it(tmp_path: Path) -> None:
    run, store = tmp_path / "a" / "runs" / "x", tmp_path / "a" / "cache" / "coco.zarr"
    run.mkdir(parents=True)
    written = to_portable(str(store), run)
    assert written == "../../cache/coco.zarr"
    assert from_portable(written, run) == str(store)
    (tmp_path / "a").rename(tmp_path / "b")
    moved = from_portable(written, tmp_path / "b" / "runs" / "x")
    assert moved == str(tmp_path / "b" / "cache" / "coco.zarr")


def test_a_run_below_a_link_has_its_paths_relative_to_the_real_folder(tmp_path: Path) -> None:
    real = tmp_path / "disk" / "deep" / "runs"
    real.mkdir(parents=True)
    (tmp_path / "runs").symlink_to(real)
    store = tmp_path / "cache" / "coco.zarr"
    written = to_portable(str(store), tmp_path / "runs" / "x")
    assert written == "../../../../cache/coco.zarr"
    assert from_portable(written, tmp_path / "runs" / "x") == str(store)


def test_what_comes_with_the_package_is_found_on_every_machine(tmp_path: Path) -> None:
    location = str(WEIGHTS.absolute() / "opt-micro")
    written = to_portable(location, tmp_path)
    assert written == "package:demo/weights/opt-micro"
    assert from_portable(written, tmp_path) == location


def test_a_relative_path_that_exists_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "opt").mkdir(parents=True)
    assert to_portable("models/opt", tmp_path / "runs" / "x") == "../../models/opt"
    assert to_portable("models/opt", tmp_path) == "./models/opt"
    assert from_portable("./models/opt", tmp_path) == str(tmp_path / "models" / "opt")


def test_absolute_paths_of_earlier_versions_stay(tmp_path: Path) -> None:
    assert from_portable("/data/coco.zarr", tmp_path) == "/data/coco.zarr"
