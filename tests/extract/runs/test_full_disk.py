"""A full file system stops the run with one clear error, and finished shards are kept."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from epalm.cache.maintenance.verify import verify_deep
from epalm.cache.storage.local_storage import PUT_FOLDER
from epalm.cache.store import Store
from epalm.errors import StoreError
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from tests.cache.helpers import file_contents
from tests.extract.helpers import CountingEncoder, counting_store, numbered

ITEMS = numbered(600)
OPTIONS = RunOptions(batch_size=32, workers=0, quiet=True)


def mount(*options: str) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small file system takes root: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of 120 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def run(path: Path) -> Store:
    store = counting_store(path, ITEMS)
    extract(CountingEncoder(), ITEMS, store, options=OPTIONS)
    return store


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_full_disk_is_named_and_the_same_command_completes_later(
    disk: Path, tmp_path: Path, name: str
) -> None:
    ballast = disk / "ballast"
    counting_store(disk / name, ITEMS)
    free = 120 * 1024 - sum(file.stat().st_size for file in disk.rglob("*") if file.is_file())
    ballast.write_bytes(b"x" * max(free - 60_000, 0))
    with pytest.raises(StoreError, match=r"could not be written.*No space left.*free some space"):
        run(disk / name)
    store = Store.open(disk / name)
    done = store.spec.shards - len(store.missing_shards())
    assert 0 < done < store.spec.shards
    assert list(verify_deep(store)) == []
    root = Path(store.format.root(str(disk / name)))
    assert not list((root / store.private_name(PUT_FOLDER)).iterdir())
    ballast.unlink()
    mount("-o", "remount,size=10m", str(disk))
    assert file_contents(run(disk / name)) == file_contents(run(tmp_path / name))


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_read_only_folder_is_named_and_the_same_command_completes_later(
    disk: Path, tmp_path: Path, name: str
) -> None:
    mount("-o", "remount,ro,size=10m", str(disk))
    with pytest.raises(StoreError, match=r"cannot be created.*Read-only.*that can be written"):
        run(disk / name)
    mount("-o", "remount,rw", str(disk))
    counting_store(disk / name, ITEMS)
    mount("-o", "remount,ro", str(disk))
    with pytest.raises(StoreError, match=r"could not be written.*Read-only.*same command again"):
        run(disk / name)
    mount("-o", "remount,rw", str(disk))
    assert file_contents(run(disk / name)) == file_contents(run(tmp_path / name))
