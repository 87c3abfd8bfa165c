"""How a format lays out its files; the rest of a store is the same for all formats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from epalm.cache.spec import StoreSpec
from epalm.cache.storage.storage import Part, Storage
from epalm.errors import UsageError
from epalm.plugins import load_plugin

Tokens = NDArray[np.floating]
Valid = NDArray[np.bool_]

LAYOUTS = {
    "zarr": "epalm.cache.formats.zarr_format:ZarrFormat",
    "hdf5": "epalm.cache.formats.hdf5_format:Hdf5Layout",
}
"""Name of a format -> its layout, called with the last part of the store's path."""

SUFFIXES = {".zarr": "zarr", ".h5": "hdf5", ".hdf5": "hdf5"}
"""Format of a store by the end of its path."""


@dataclass(frozen=True)
class Extent:
    """Where the vectors of a shard lie within one of its files.

    Attributes:
        name: of the file, relative to the store's place.
        offset: bytes before the first vector; (rows, V, L, D) follow, C-contiguous.
    """

    name: str
    offset: int


class StoreFormat(Protocol):
    """The files of a format.

    Attributes:
        private: folder, relative to the place, of spec, commit records and errors.jsonl.
        first_files: names of the files of `skeleton`.
        keys_file: the one of them that holds the keys, and the bytes that a key takes at least.
    """

    private: str
    first_files: tuple[str, ...]
    keys_file: tuple[str, int]

    def root(self, location: str) -> str:
        """The place of a store: where names are relative to."""

    def paths(self, location: str) -> tuple[str, ...]:
        """Every file and folder that a store has in the folder that it is in."""

    def skeleton(self, spec: StoreSpec, keys: Sequence[str]) -> dict[str, bytes]:
        """The files of a store without any shard, by name; equal arguments give equal bytes."""

    def encode(
        self, spec: StoreSpec, shard: int, *, tokens: Tokens, valid: Valid
    ) -> dict[str, list[Part]]:
        """The files of a shard, by name.

        Args:
            spec: of the store.
            shard: its number.
            tokens: (rows of the shard, V, L, D), the store's dtype, C-contiguous.
            valid: (rows of the shard,).
        """

    def shard_files(self, shard: int) -> tuple[str, ...]:
        """Names of the files of `encode`, the one with the vectors first."""

    def extent(self, spec: StoreSpec, shard: int) -> Extent:
        """Where a shard's vectors lie."""

    def keys(self, place: Storage, count: int) -> list[str]:
        """The key of every row.

        Raises:
            ValueError: the file is laid out in another way than `skeleton` does it, or for another
                number of rows than `count`; nothing of it was used.
        """


def layout_of(location: str, store_format: str | None = None) -> StoreFormat:
    """The layout of the store at `location`.

    Args:
        location: path or URL.
        store_format: a key of `LAYOUTS`; None goes by the end of the path.

    Raises:
        UsageError: neither tells the format.
    """
    name = PurePosixPath(location.rstrip("/")).name
    suffix = PurePosixPath(name).suffix
    by_suffix = SUFFIXES.get(suffix)
    if store_format is None and by_suffix is None:
        raise UsageError(f"{location} ends in none of {', '.join(SUFFIXES)}: name its format so")
    if store_format and by_suffix and by_suffix != store_format:
        raise UsageError(f"--format {store_format} does not go with a store that ends in {suffix}")
    make: Callable[[str], StoreFormat] = load_plugin(
        store_format or by_suffix or "", LAYOUTS, what="store format", option="--format"
    )
    return make(name)


def as_bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The bytes of a C-contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8)
