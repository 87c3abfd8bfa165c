"""A feature store in HDF5, which every HDF5 library can open.

    coco_vitb16.h5               keys (N,) string; cls (N, V, L, D) and valid (N,) as virtual
                                 datasets over the shards, NaN and False where a shard is missing
    coco_vitb16.h5.shards/
      00012.h5                   cls (rows, V, L, D) contiguous, valid (rows,)
      00013-700.h5               the same shard with more rows, after the store has grown
      spec.json done/ errors.jsonl    see `epalm.cache.store`

Each file is written once: a process that is killed while it appends to an HDF5 file can leave one
that does not open. All shards with the same number of rows differ only in the bytes of two
contiguous datasets. The HDF5 library therefore lays out one shard, in memory
(`epalm.cache.formats.hdf5_files`), and every shard is written as that header plus its rows. The
files refer to each other by name: move them together, and do not rename them.
"""

from collections.abc import Sequence

from epalm.cache.formats.generations import Generations, ShardVersion
from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.store_format import Content, Extent, Features, Valid, as_bytes
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksum import Part, size_and_checksum
from epalm.cache.storage.storage import Storage


class Hdf5Format:
    """A main file with the keys and virtual datasets, and a folder of shard files."""

    private = ""

    def __init__(self, name: str) -> None:
        self._main_file = f"../{name}"
        self.initial_files = (self._main_file,)
        self.keys_file = (self._main_file, 16)
        self.earlier_files = self.initial_files
        self._shards = f"{name}.shards"

    def root(self, location: str) -> str:
        """The folder of the shards, next to the main file."""
        return f"{location.rstrip('/')}.shards"

    def paths(self, location: str) -> tuple[str, ...]:
        """The main file and the folder of the shards."""
        return location.rstrip("/"), self.root(location)

    def encode_initial_files(
        self, spec: StoreSpec, keys: Sequence[str], grown: Generations | None = None
    ) -> dict[str, Content]:
        """The main file."""
        from epalm.cache.formats.hdf5_files import encode_main_file

        files = []
        for shard in range(spec.shards):
            version = grown.version(shard, len(spec.rows_of(shard))).name if grown else ""
            files.append(f"{self._shards}/{_shard_file(shard, version)}")
        return {self._main_file: encode_main_file(spec, keys, files)}

    def encode_shard(
        self, spec: StoreSpec, shard: int, *, features: Features, valid: Valid, version: str = ""
    ) -> dict[str, list[Part]]:
        """The one file of a shard."""
        from epalm.cache.formats.hdf5_files import shard_header

        data, offset = shard_header(len(features), spec.row_shape, spec.dtype)
        header: list[Part] = [data[:offset], as_bytes(valid), data[offset + len(valid) :]]
        return {_shard_file(shard, version): [*header, as_bytes(features)]}

    def shard_files(self, shard: int, version: str = "") -> tuple[str, ...]:
        """The one file of a version of a shard."""
        return (_shard_file(shard, version),)

    def extent(self, spec: StoreSpec, shard: int, version: ShardVersion | None = None) -> Extent:
        """The features are the last bytes of a shard's file."""
        from epalm.cache.formats.hdf5_files import shard_header

        rows, name = version or (len(spec.rows_of(shard)), "")
        header = shard_header(rows, spec.row_shape, spec.dtype)
        return Extent(_shard_file(shard, name), len(header.data))

    def first_rows(self, spec: StoreSpec, name: str, data: bytes, *, rows: int) -> tuple[int, str]:
        """Those of the file itself, since each version has its own."""
        del spec, name, rows
        return size_and_checksum([data])

    def read_keys(self, storage: Storage, count: int, checksum: str, name: str) -> PackedKeys:
        """The key of every row, read from the main file with h5py."""
        from epalm.cache.formats.hdf5_files import read_keys

        del checksum, name
        return read_keys(storage.read(self._main_file), count)


def _shard_file(shard: int, version: str) -> str:
    return f"{version or f'{shard:05d}'}.h5"
