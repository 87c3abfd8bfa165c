"""Stores that are read where they are on the hub, through hf:// URLs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfFileSystem, constants

from epalm.cache.create_store import create_store
from epalm.cache.maintenance.verify import verify_deep
from epalm.cache.readers.open_reader import open_store
from epalm.cache.store import Store
from epalm.errors import EpalmError, StoreError, UsageError
from epalm.evaluate import cli as evaluate_cli
from tests.cache.helpers import BROKEN, KEYS, finished_store, spec
from tests.evaluate.helpers import make_run
from tests.hub.stand_in import Hub


@pytest.fixture(autouse=True)
def _endpoint(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file system takes its server from a constant that is read when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    HfFileSystem.clear_instance_cache()


def publish(hub: Hub, location: Path, name: str, kind: str = "dataset") -> None:
    """Put the files of a store into a repository."""
    files = [path for path in location.parent.rglob("*") if path.is_file()]
    contents = {path.relative_to(location.parent).as_posix(): path.read_bytes() for path in files}
    hub.publish(name, contents, kind)


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_store_on_the_hub_is_read_as_a_local_one(
    name: str, kind: str, hub: Hub, tmp_path: Path
) -> None:
    local = tmp_path / "here" / name
    local.parent.mkdir()
    finished_store(local)
    publish(hub, local, "user/data", kind)
    url = f"hf://{'datasets/' if kind == 'dataset' else ''}user/data/{name}"
    store = Store.open(url)
    assert store.spec == Store.open(local).spec
    assert list(verify_deep(store)) == []
    keys = [key for key in KEYS if key != BROKEN]
    np.testing.assert_array_equal(open_store(url).read(keys), open_store(local).read(keys))


def test_a_run_is_evaluated_on_a_store_on_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "world").mkdir()
    run = make_run(tmp_path / "world")
    (tmp_path / "up").mkdir()
    run.store.rename(tmp_path / "up" / "tiny.zarr")
    publish(hub, tmp_path / "up" / "tiny.zarr", "user/data")
    url = "hf://datasets/user/data/tiny.zarr"
    options = ["--run", str(run.folder), "--split", "val", "--device", "cpu", "--features", url]
    monkeypatch.setattr(sys, "argv", ["epalm-eval", *options, "--quiet"])
    with pytest.raises(SystemExit) as ended:
        evaluate_cli.main()
    assert ended.value.code == 3  # one sample could not be encoded
    assert f'"features": "{url}"' in (run.folder / "eval/val/scores.json").read_text()


def test_what_is_not_there_is_said_in_one_line(hub: Hub) -> None:
    with pytest.raises(EpalmError):
        Store.open("hf://datasets/user/absent/s.zarr")
    hub.publish("user/data", {"README.md": b"x"}, "dataset")
    with pytest.raises(StoreError, match="found nothing at"):
        Store.open("hf://datasets/user/data/s.zarr")


def test_a_store_is_not_written_on_the_hub_file_by_file(hub: Hub) -> None:
    hub.publish("user/data", {"README.md": b"x"}, "dataset")
    with pytest.raises(UsageError, match=r"epalm push .* user/data"):
        create_store("hf://datasets/user/data/s.zarr", spec(), KEYS)
