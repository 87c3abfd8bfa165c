"""The look-up table of many keys in a mapped file, made once per machine.

Finding 10^8 keys in their chunk, hashing and sorting them takes half a minute and 1.2 GB. The
result is kept in the folder of local copies (`epalm.cache.storage.local_copies`), under the digest
of the store, so that processes share its memory and a store that cannot be written has one, too. It
is compared with its checksum, and can be deleted at any time.

    a header of `HEADER_BYTES`: JSON with a checksum, padded with spaces
    (N + 1,) offset of each key in the chunk, uint32 or int64
    (N,) uint64 entries of the table, see `epalm.cache.formats.keys.packed_table`
"""

import logging
import mmap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.keys.packed_keys import Offsets, PackedKeys, TableEntries
from epalm.cache.formats.keys.packed_table import make_entries
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.cache.storage.local_copies import LocalCopies, copies_folder, copies_limit
from epalm.console import counted
from epalm.errors import CorruptShardError, StoreError

logger = logging.getLogger(__name__)

STORED_KEYS = 1 << 22
"""Number of keys from which on the table is stored; fewer take a second."""

FOLDER = "key-tables"
"""Name of the folder of all tables in the folder of local copies."""

HEADER_BYTES = mmap.ALLOCATIONGRANULARITY

VERSION = 1
"""Version of file and hash; a file of another version is made again."""

_ENTRY_BYTES = 8

UINT32_BYTES = 4


def with_stored_table(chunk: NDArray[np.uint8], count: int, name: str) -> PackedKeys:
    """The keys of a chunk; many with the stored entries of their look-up table.

    Args:
        chunk: chunk of keys, see `PackedKeys.from_vlen` for the error.
        count: number of keys.
        name: digest of the keys.
    """
    if count < STORED_KEYS:
        return PackedKeys.from_vlen(chunk, count)
    copies = LocalCopies(copies_folder() / FOLDER, copies_limit())
    write = partial(_write, chunk, count)
    try:
        path = copies.derive(name, write)
        keys = _map(path, chunk, count)
        if keys is None:
            path.unlink(missing_ok=True)
            keys = _map(copies.derive(name, write), chunk, count)
    except StoreError as error:
        logger.warning("the look-up table of the store is made in this process: %s", error)
        keys = None
    return keys or PackedKeys.from_vlen(chunk, count)


def _write(chunk: NDArray[np.uint8], count: int, path: Path) -> None:
    logger.info("making the look-up table of %s, once on this machine", counted(count, "key"))
    keys = PackedKeys.from_vlen(chunk, count)
    size = keys.offsets.itemsize
    start = _entries_start(count, size)
    whole = np.memmap(path, np.uint8, "w+", shape=(start + count * _ENTRY_BYTES,))
    whole[HEADER_BYTES : HEADER_BYTES + (count + 1) * size] = keys.offsets.view(np.uint8)
    entries = make_entries(keys, whole[start:].view(np.uint64))
    checksum = size_and_checksum([whole[HEADER_BYTES:]])[1]
    fields = {"version": VERSION, "seed": f"{entries.seed:016x}", "offset_bytes": size}
    header = dump_checksummed(fields | {"count": count, "content": checksum})
    whole[:HEADER_BYTES] = np.frombuffer(header.ljust(HEADER_BYTES), np.uint8)


def _map(path: Path, chunk: NDArray[np.uint8], count: int) -> PackedKeys | None:
    """The keys with the entries of a file; None if it is damaged or of another version."""
    try:
        whole = np.memmap(path, np.uint8, "r")
        fields = load_checksummed(whole[:HEADER_BYTES].tobytes().rstrip(b" "), str(path))
    except (OSError, ValueError, CorruptShardError):
        return None
    if not _fits(whole, fields, count):
        return None
    size = fields["offset_bytes"]
    block = whole[HEADER_BYTES : HEADER_BYTES + (count + 1) * size]
    offsets: Offsets = block.view(np.uint32) if size == UINT32_BYTES else block.view(np.int64)
    keys = PackedKeys(chunk, offsets)
    entries = whole[_entries_start(count, size) :].view(np.uint64)
    keys.entries = TableEntries(int(fields["seed"], 16), entries)
    return keys


def _fits(whole: NDArray[np.uint8], fields: Mapping[str, Any], count: int) -> bool:
    """Whether a file has the table of this number of keys, and its own checksum."""
    expected = {"version": VERSION, "count": count}
    if not expected.items() <= fields.items():
        return False
    checksum = size_and_checksum([whole[HEADER_BYTES:]])
    nbytes = _entries_start(count, fields["offset_bytes"]) + count * _ENTRY_BYTES - HEADER_BYTES
    return checksum == (nbytes, fields["content"])


def _entries_start(count: int, offset_bytes: int) -> int:
    """Offset of the entries in the file, a multiple of their size."""
    end = HEADER_BYTES + (count + 1) * offset_bytes
    return -(-end // _ENTRY_BYTES) * _ENTRY_BYTES
