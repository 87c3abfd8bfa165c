"""Exports with one file per shard, named as the shards of the store are."""

from collections.abc import Sequence

from epalm.cache.maintenance.exports.export_format import Written
from epalm.cache.storage.checksum import Part, size_and_checksum
from epalm.cache.storage.storage import Storage

FILE, SIZE, CHECKSUM = "file", "size", "crc32c"


def write_shard_file(storage: Storage, name: str, parts: Sequence[Part]) -> Written:
    """Write the file of a shard atomically; its name, size and checksum."""
    size, checksum = size_and_checksum(parts)
    storage.put(name, parts)
    return {FILE: name, SIZE: size, CHECKSUM: checksum}


def has_shard_file(storage: Storage, written: Written) -> bool:
    """Whether the file is there with the size that it was written with."""
    return storage.size(str(written.get(FILE))) == written.get(SIZE)
