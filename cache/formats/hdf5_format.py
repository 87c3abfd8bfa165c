"""A feature store in HDF5, which every HDF5 library can open.

    coco_vitb16.h5               keys (N,) string; cls (N, V, L, D) and valid (N,) as virtual
                                 datasets over the shards, NaN and False where a shard is missing
    coco_vitb16.h5.shards/
      00012.h5                   cls (rows, V, L, D) contiguous, valid (rows,)
      spec.json done/ errors.jsonl    see `epalm.cache.store`

Each file is written once: a process that is killed while it appends to an HDF5 file can leave one
that does not open. All shards with the same number of rows differ only in the bytes of two
contiguous datasets. The HDF5 library therefore lays out one shard, in memory
(`epalm.cache.formats.hdf5_files`), and every shard is written as that header plus its rows. The
files refer to each other by name: move them together, and do not rename them.
"""

from collections.abc import Sequence

from epalm.cache.formats.store_format import Extent, Features, Valid, as_bytes
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksum import Part
from epalm.cache.storage.storage import Storage


class Hdf5Format:
    """A main file with the keys and virtual datasets, and a folder of shard files."""

    private = ""

    def __init__(self, name: str) -> None:
        self._main_file = f"../{name}"
        self.initial_files = (self._main_file,)
        self.keys_file = (self._main_file, 16)
        self._shards = f"{name}.shards"

    def root(self, location: str) -> str:
        """The folder of the shards, next to the main file."""
        return f"{location.rstrip('/')}.shards"

    def paths(self, location: str) -> tuple[str, ...]:
        """The main file and the folder of the shards."""
        return location.rstrip("/"), self.root(location)

    def encode_initial_files(self, spec: StoreSpec, keys: Sequence[str]) -> dict[str, bytes]:
        """The main file."""
        from epalm.cache.formats.hdf5_files import encode_main_file

        files = [f"{self._shards}/{_shard_file(shard)}" for shard in range(spec.shards)]
        return {self._main_file: encode_main_file(spec, keys, files)}

    def encode_shard(
        self, spec: StoreSpec, shard: int, *, features: Features, valid: Valid
    ) -> dict[str, list[Part]]:
        """The one file of a shard."""
        from epalm.cache.formats.hdf5_files import shard_header

        data, offset = shard_header(len(features), spec.row_shape, spec.dtype)
        header: list[Part] = [data[:offset], as_bytes(valid), data[offset + len(valid) :]]
        return {_shard_file(shard): [*header, as_bytes(features)]}

    def shard_files(self, shard: int) -> tuple[str, ...]:
        """The one file of a shard."""
        return (_shard_file(shard),)

    def extent(self, spec: StoreSpec, shard: int) -> Extent:
        """The features are the last bytes of a shard's file."""
        from epalm.cache.formats.hdf5_files import shard_header

        header = shard_header(len(spec.rows_of(shard)), spec.row_shape, spec.dtype)
        return Extent(_shard_file(shard), len(header.data))

    def read_keys(self, storage: Storage, count: int) -> list[str]:
        """The key of every row, read from the main file with h5py."""
        from epalm.cache.formats.hdf5_files import read_keys

        return read_keys(storage.read(self._main_file), count)


def _shard_file(shard: int) -> str:
    return f"{shard:05d}.h5"
