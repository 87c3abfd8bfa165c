import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from epalm.cache.index import index_parts
from epalm.cache.index.index_builder import IndexBuilder
from epalm.cache.index.index_parts import SampleBatch
from epalm.cache.index.sample_index import SampleIndex
from epalm.errors import CacheMismatchError, StoreError
from tests.cache.index.index_units import KEYED_FILES, build, files_of, tar_batch, unit

UNITS = [
    unit(f"u{n}", SampleBatch(KEYED_FILES, [f"{n}-{k}" for k in range(1000 + n)])) for n in range(7)
]


def test_several_processes_write_the_files_that_one_writes(tmp_path: Path) -> None:
    build(tmp_path / "one", *UNITS)
    labels = {"dataset": "made-up"}
    for part in (2, 0):
        builder = IndexBuilder(tmp_path / "three", UNITS, labels)
        assert builder.build(part=part, parts=3) is None
        with pytest.raises(StoreError, match=r"no complete index, index\.json is missing"):
            SampleIndex.open(tmp_path / "three")
    assert IndexBuilder(tmp_path / "three", UNITS, labels).build(part=1, parts=3) is not None
    assert files_of(tmp_path / "three") == files_of(tmp_path / "one")


KILLED = """
import os, signal, sys
from pathlib import Path
from epalm.cache.index import index_files
from tests.cache.index.index_units import build
from tests.cache.index.test_index_builder import UNITS

replace, left = Path.replace, int(sys.argv[2])

def counted(path, target):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(path, target)

Path.replace = counted
build(Path(sys.argv[1]), *UNITS)
"""


@pytest.mark.parametrize("renames", [0, 3, 29, 31])
def test_a_builder_killed_before_any_rename_is_resumed_with_the_same_files(
    tmp_path: Path, renames: int
) -> None:
    """Seven units of four files, then hashes, rows and sums of the table, then index.json."""
    build(tmp_path / "undisturbed", *UNITS)
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(renames)]
    killed = subprocess.run(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    build(tmp_path / "killed", *UNITS)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "undisturbed")


def test_only_changed_units_are_read_again(tmp_path: Path) -> None:
    build(tmp_path / "index", *UNITS)

    def never() -> list[SampleBatch]:
        raise AssertionError("this unit has not changed")

    kept = [unit(one.source) for one in UNITS[:6]]
    kept = [type(one)(one.source, never) for one in kept]
    grown = [*kept, unit("u6 and more", *UNITS[6].read(), tar_batch("new.tar", ["new"]))]
    index = build(tmp_path / "index", *grown)
    whole = [*UNITS[:6], grown[6]]
    build(tmp_path / "whole", *whole)
    assert index.keys(len(index) - 1, len(index)) == ["new"]
    assert files_of(tmp_path / "index") == files_of(tmp_path / "whole")
    assert build(tmp_path / "index", *[type(one)(one.source, never) for one in whole])


def test_a_unit_of_one_sample_is_found_after_another_unit_was_added(tmp_path: Path) -> None:
    single = unit("a", SampleBatch(KEYED_FILES, ["x"]))
    build(tmp_path, single)
    index = build(tmp_path, single, unit("b", SampleBatch(KEYED_FILES, ["y", "z"])))
    assert index.find(["z", "x", "y", "w"]).tolist() == [2, 0, 1, -1]


def test_units_that_the_dataset_does_not_have_any_more_are_deleted(tmp_path: Path) -> None:
    build(tmp_path / "index", *UNITS)
    build(tmp_path / "index", *UNITS[:3])
    build(tmp_path / "three", *UNITS[:3])
    assert files_of(tmp_path / "index") == files_of(tmp_path / "three")


def test_a_repeated_key_is_refused_with_both_places(tmp_path: Path) -> None:
    first, second = tar_batch("x/0.tar", ["a", "b"]), tar_batch("x/1.tar", ["c", "a"])
    expected = r"the key 'a' is that of two samples, in x/0\.tar and in x/1\.tar: rename"
    with pytest.raises(StoreError, match=expected):
        build(tmp_path, unit("a", first), unit("b", second))


def test_a_key_that_a_unit_repeats_is_refused(tmp_path: Path) -> None:
    expected = r"'a' is that of two samples, in x/0\.tar, at byte 512 and at byte 2560: rename"
    with pytest.raises(StoreError, match=expected):
        build(tmp_path, unit("a", tar_batch("x/0.tar", ["a", "b", "a"])))


def test_the_first_of_samples_with_one_key_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated within a batch, a part, a unit and between units; one part has no other keys."""
    monkeypatch.setattr(index_parts, "PART_ROWS", 4)
    batches = [["a", "b", "a"], ["b", "c", "d"], ["a", "e"], ["d", "f", "f"], ["a", "b", "c", "e"]]
    numbered = [tar_batch(f"{n}.tar", keys) for n, keys in enumerate(batches)]
    index = build(tmp_path, unit("u", *numbered[:3]), unit("v", *numbered[3:]), repeated="first")
    expected: dict[str, tuple[str, int]] = {}
    for n, keys in enumerate(batches):
        for k, key in enumerate(keys):
            expected.setdefault(key, (f"{n}.tar", 512 + 1024 * k))
    items = index.items(0, len(index))
    assert [(key, place.name, place.offset) for key, place in items] == [
        (key, *place) for key, place in expected.items()
    ]
    assert index.find(list(expected)).tolist() == list(range(len(expected)))
    again = IndexBuilder(
        tmp_path, [unit("u"), unit("v")], {"dataset": "made-up"}, repeated="first"
    ).build()
    assert again is not None
    assert len(again) == len(index)


def test_a_dataset_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="made-up has no samples"):
        build(tmp_path, unit("empty"))


def test_files_of_killed_builders_are_deleted(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "index", ignore_errors=True)
    (tmp_path / "index/parts").mkdir(parents=True)
    (tmp_path / "index/sort-1").mkdir()
    (tmp_path / "index/parts/.1.new").write_bytes(b"half")
    build(tmp_path / "index", *UNITS)
    build(tmp_path / "clean", *UNITS)
    assert files_of(tmp_path / "index") == files_of(tmp_path / "clean")
    assert not list((tmp_path / "index").glob("sort-*"))


@pytest.mark.parametrize("parts", [1, 2])
def test_the_index_of_another_dataset_is_refused_and_kept(tmp_path: Path, parts: int) -> None:
    build(tmp_path, *UNITS)
    before = files_of(tmp_path)
    other = IndexBuilder(tmp_path, UNITS[:1], {"dataset": "other"})
    both = r"is the index of the dataset made-up, not of other: give another --index .*--fresh"
    with pytest.raises(CacheMismatchError, match=both):
        other.build(parts=parts)
    assert files_of(tmp_path) == before
    assert len(build(tmp_path, *UNITS[:1])) == 1000  # the same dataset, which has changed
