"""Units with made-up samples, to build an index from."""

from collections.abc import Sequence
from pathlib import Path

from epalm.cache.index.index_builder import IndexBuilder, Unit
from epalm.cache.index.index_parts import BYTES, KEYED, FileEntry, SampleBatch
from epalm.cache.index.sample_index import SampleIndex

KEYED_FILES = FileEntry(KEYED, "media/", ".jpg")

ODD_KEYS = ["ä/ö.jpg", 'a"b\\c', "line\nfeed", "tab\t", " ", "😀", "a/b/../c", "\ud800"]
"""Keys that JSON escapes."""


def tar_batch(name: str, keys: Sequence[str]) -> SampleBatch:
    """Samples of one tar file, each of 100 bytes."""
    entry = FileEntry(BYTES, name, size=len(keys) * 1024, mtime_ns=77)
    offsets = [512 + 1024 * number for number in range(len(keys))]
    return SampleBatch(entry, keys, offsets, [100] * len(keys))


def unit(name: str, *batches: SampleBatch) -> Unit:
    return Unit(name, lambda: batches)


def build(folder: Path, *units: Unit, **options: str) -> SampleIndex:
    index = IndexBuilder(folder, units, {"dataset": "made-up"}, **options).build()
    assert index is not None
    return index


def files_of(folder: Path) -> dict[str, bytes]:
    """Name and content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
