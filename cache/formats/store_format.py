"""The file format of a store: Zarr or HDF5. Everything else about a store is the same for both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.generations import Generations, ShardVersion
from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.index.vlen_keys import KeysChunk
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksum import Part, size_and_checksum
from epalm.cache.storage.storage import Storage
from epalm.errors import UsageError
from epalm.plugins import load_plugin

Features = NDArray[np.floating]
Valid = NDArray[np.bool_]

FORMATS = {
    "zarr": "epalm.cache.formats.zarr_format:ZarrFormat",
    "hdf5": "epalm.cache.formats.hdf5_format:Hdf5Format",
}
"""Format name -> its class, whose argument is the last component of the store's path."""

SUFFIXES = {".zarr": "zarr", ".h5": "hdf5", ".hdf5": "hdf5"}
"""Path suffix of a store -> format name."""


@dataclass(frozen=True)
class Extent:
    """Position of a shard's features in one of its files: (rows, V, L, D), C-contiguous.

    Attributes:
        name: name of the file, relative to the storage.
        offset: number of bytes before the first row.
    """

    name: str
    offset: int


Content: TypeAlias = "bytes | KeysChunk"
"""Content of a file for other libraries; the keys of an index are encoded when they are written."""


def parts_of(content: Content) -> Sequence[Part]:
    """The parts of a file, to write them."""
    return [content] if isinstance(content, bytes) else content


def sums_of(content: Content) -> tuple[int, str]:
    """Size and CRC-32C of a file."""
    return size_and_checksum([content]) if isinstance(content, bytes) else content.sums


class StoreFormat(Protocol):
    """Names and contents of the files of a format.

    A shard whose last rows were added later has several versions, see
    `epalm.cache.formats.generations`. `version` is the name of one of them, e.g. "00012-700".

    Attributes:
        private: folder of spec.json, the commit records and errors.jsonl, relative to the storage.
        initial_files: names of the files that are written when a store is created.
        keys_file: the one of them with the keys, and the minimum number of bytes per key.
        earlier_files: names of files that another generation may have had; `encode_initial_files`
            gives the current ones.
    """

    private: str
    initial_files: tuple[str, ...]
    keys_file: tuple[str, int]
    earlier_files: tuple[str, ...]

    def root(self, location: str) -> str:
        """Path or URL of the storage, to which file names are relative."""

    def paths(self, location: str) -> tuple[str, ...]:
        """Every file and folder of a store that is a direct child of the store's parent folder."""

    def encode_initial_files(
        self, spec: StoreSpec, keys: Sequence[str], grown: Generations | None = None
    ) -> dict[str, Content]:
        """Name and content of the files for other libraries; equal arguments give equal bytes.

        They are in the order in which they replace those of an earlier generation, so that other
        libraries can read the store at each moment.

        Args:
            spec: spec of the store, with the number of rows of the last generation.
            keys: the key of every row.
            grown: all generations; None for a store that has not grown.
        """

    def encode_shard(
        self, spec: StoreSpec, shard: int, *, features: Features, valid: Valid, version: str = ""
    ) -> dict[str, list[Part]]:
        """Name and content of the files of a shard.

        Args:
            spec: spec of the store.
            shard: shard number.
            features: (rows of the shard, V, L, D), in the store's dtype, C-contiguous.
            valid: (rows of the shard,), False for samples that could not be encoded.
            version: name of the version; "" for the first one.
        """

    def shard_files(self, shard: int, version: str = "") -> tuple[str, ...]:
        """Names of a shard's files; the one with the features comes first."""

    def extent(self, spec: StoreSpec, shard: int, version: ShardVersion | None = None) -> Extent:
        """Position of a shard's features in a version of it; None for the first version."""

    def first_rows(self, spec: StoreSpec, name: str, data: bytes, *, rows: int) -> tuple[int, str]:
        """Size and CRC-32C that a shard's file had before rows were added to it.

        Args:
            spec: spec of the store.
            name: name of the file.
            data: current content of the file.
            rows: number of rows that it had.
        """

    def read_keys(self, storage: Storage, count: int, checksum: str, name: str) -> PackedKeys:
        """The key of every row.

        Args:
            storage: files of the store.
            count: number of rows.
            checksum: recorded CRC-32C of `keys_file`. If it was compared and is the same,
                `PackedKeys.checked` is set; if not, the caller compares the digest of the keys.
            name: digest of the keys, which names their stored look-up table.

        Raises:
            ValueError: the file is not as `encode_initial_files` writes it for `count` keys. This
                is checked before anything is read from it.
        """


def format_of(location: str, store_format: str | None = None) -> StoreFormat:
    """The format of the store at `location`.

    Args:
        location: path or URL.
        store_format: a key of `FORMATS`; None infers it from the suffix of the path.

    Raises:
        UsageError: the format cannot be inferred, is unknown, or contradicts the suffix.
    """
    name = PurePosixPath(location.rstrip("/")).name
    suffix = PurePosixPath(name).suffix
    inferred = SUFFIXES.get(suffix)
    if store_format is None and inferred is None:
        raise UsageError(
            f"{location} ends in none of {', '.join(SUFFIXES)}: the path of a feature store needs "
            "one of these suffixes"
        )
    if store_format and inferred and inferred != store_format:
        raise UsageError(f"--format {store_format} contradicts the suffix {suffix} of {location}")
    make: Callable[[str], StoreFormat] = load_plugin(
        store_format or inferred or "", FORMATS, what="store format", option="--format"
    )
    return make(name)


def as_bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The bytes of a C-contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8)
