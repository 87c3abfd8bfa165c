"""Make the sample index of a store that has none, from its keys and media tables.

An extraction makes the index of a dataset. A store of an earlier version, or one that was copied
without its index, has the same keys in its own files, and its media tables say which bytes of which
file each sample was. An index of them serves the lookup of keys; an extraction of a large dataset
replaces it by that of the dataset, which says more.
"""

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from epalm.cache.index.index_builder import IndexBuilder, Unit
from epalm.cache.index.index_files import default_index
from epalm.cache.index.index_keys import IndexKeys
from epalm.cache.index.index_parts import BYTES, KEYED, PART_ROWS, WHOLE, FileEntry, SampleBatch
from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.maintenance.media_check import read_media_table
from epalm.cache.records.file_state import TO_THE_END, UNKNOWN
from epalm.cache.records.media_table import MediaTable
from epalm.cache.store import Store
from epalm.console import Ticker
from epalm.errors import StoreError

STORE_LABEL = "store"
"""The label of an index with the digest of the store that it was made from."""


def index_store(
    store: Store, folder: Path | None = None, tick: Ticker | None = None
) -> SampleIndex:
    """Build the index of all keys of a store, unless one of the same keys is there.

    An index of other samples of the same dataset is replaced. Several processes that do so build it
    one after the other, and a killed one is resumed.

    Args:
        store: a store of any format, finished or not.
        folder: folder of the index; that beside the store by default.
        tick: called with the number of samples of each unit.

    Raises:
        CorruptShardError: the keys of the store or a media table are damaged.
        StoreError: the index cannot be written.
        CacheMismatchError: the folder has the index of another dataset, which is kept.
    """
    folder = folder or default_index(store.location)
    spec, digest = store.spec, store.generations.digests[store.generation]
    if present := _present(folder, store, digest):
        return present
    labels = {"dataset": spec.dataset, "tasks": ",".join(spec.tasks), STORE_LABEL: digest}
    index = IndexBuilder(folder, _units(store, digest), labels).build(tick=tick)
    if index is None:
        raise StoreError(f"{folder} changed while it was built: run the same command again")
    return index


def _present(folder: Path, store: Store, digest: str) -> SampleIndex | None:
    """The complete index in a folder, if it has the keys of the store in their order."""
    try:
        index = SampleIndex.open(folder)
    except StoreError:
        return None
    same = len(index) == store.spec.count and store.spec.digest(IndexKeys(index)) == digest
    return index if same else None


def _units(store: Store, digest: str) -> list[Unit]:
    """Units of consecutive shards, each of about the rows of a part."""
    step = max(PART_ROWS // store.spec.shard_rows, 1)
    groups = (range(store.spec.shards)[at : at + step] for at in range(0, store.spec.shards, step))
    return [
        Unit(f"shards {group.start} to {group.stop - 1} of {digest}", partial(_read, store, group))
        for group in groups
    ]


def _read(store: Store, shards: range) -> Iterator[SampleBatch]:
    for shard in shards:
        rows = store.spec.rows_of(shard)
        keys = store.keys[rows.start : rows.stop]
        table = read_media_table(store, shard) if store.has_shard(shard) else None
        table = table or MediaTable.unknown(len(rows), hashed=False)
        samples = zip(keys, table.names.tolist(), table.numbers.tolist(), strict=True)
        placed = ((key, *_place(key, name, *numbers)) for key, name, numbers in samples)
        for entry, group in groupby(placed, key=lambda sample: sample[1]):
            columns = zip(*group, strict=True)
            batch_keys, _, first, second = map(list, columns)
            yield SampleBatch(entry, batch_keys, first, second)


def _place(
    key: str, name: str, size: int, mtime_ns: int, offset: int, nbytes: int
) -> tuple[FileEntry, int, int]:
    """The entry of the file of a sample, and the two numbers of its row in an index.

    Args:
        key: key of the sample.
        name: path of the file in the media table; "" if it was not recorded.
        size: size of the file in bytes.
        mtime_ns: modification time of the file.
        offset: offset of the sample in the file.
        nbytes: number of bytes; 0 for the value of a table, whose column was not recorded.
    """
    if not name or nbytes == 0:
        return FileEntry(KEYED, ""), 0, UNKNOWN
    if nbytes != TO_THE_END or offset:
        return FileEntry(BYTES, name, size=size, mtime_ns=mtime_ns), offset, nbytes
    before, found, after = name.rpartition(key) if key else ("", "", "")
    entry = FileEntry(KEYED, before, after) if found else FileEntry(WHOLE, name)
    return entry, mtime_ns, size
