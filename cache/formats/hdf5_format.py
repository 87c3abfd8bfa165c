"""A feature store as an HDF5 file that any HDF5 reader opens.

    coco_vitb16.h5               keys (N,) string; cls (N, V, L, D) and valid (N,) as virtual
                                 datasets over the shards, NaN and false where one is missing
    coco_vitb16.h5.shards/
      00012.h5                   cls (rows, V, L, D) contiguous, valid (rows,)
      spec.json done/ errors.jsonl    see `epalm.cache.store`

No file is written twice: a killed writer of a growing HDF5 file would leave one that cannot be
opened. The shards of a store differ in the bytes of two contiguous datasets alone, so that the
HDF5 library lays out one of them, in memory (`epalm.cache.formats.hdf5_files`), and each shard is
that head and its rows. The files refer to each other by name: move both, and do not rename them.
"""

from collections.abc import Sequence

from epalm.cache.formats.store_format import Extent, Tokens, Valid, as_bytes
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.storage import Part, Storage


class Hdf5Layout:
    """See the module's head."""

    private = ""

    def __init__(self, name: str) -> None:
        self._front = f"../{name}"
        self.first_files = (self._front,)
        self.keys_file = (self._front, 16)
        self._shards = f"{name}.shards"

    def root(self, location: str) -> str:
        """The folder of the shards, beside the file."""
        return f"{location.rstrip('/')}.shards"

    def paths(self, location: str) -> tuple[str, ...]:
        """The file in front, and the folder of the shards."""
        return location.rstrip("/"), self.root(location)

    def skeleton(self, spec: StoreSpec, keys: Sequence[str]) -> dict[str, bytes]:
        """The file in front of the shards."""
        from epalm.cache.formats.hdf5_files import front_file

        files = [f"{self._shards}/{_shard_file(shard)}" for shard in range(spec.shards)]
        return {self._front: front_file(spec, keys, files)}

    def encode(
        self, spec: StoreSpec, shard: int, *, tokens: Tokens, valid: Valid
    ) -> dict[str, list[Part]]:
        """The one file of a shard."""
        from epalm.cache.formats.hdf5_files import shard_head

        data, offset = shard_head(len(tokens), spec.row_shape, spec.dtype)
        head: list[Part] = [data[:offset], as_bytes(valid), data[offset + len(valid) :]]
        return {_shard_file(shard): [*head, as_bytes(tokens)]}

    def shard_files(self, shard: int) -> tuple[str, ...]:
        """One file."""
        return (_shard_file(shard),)

    def extent(self, spec: StoreSpec, shard: int) -> Extent:
        """The vectors are the end of a shard's file."""
        from epalm.cache.formats.hdf5_files import shard_head

        head = shard_head(len(spec.rows_of(shard)), spec.row_shape, spec.dtype)
        return Extent(_shard_file(shard), len(head.data))

    def keys(self, place: Storage, count: int) -> list[str]:
        """Read with h5py from the file in front."""
        from epalm.cache.formats.hdf5_files import stored_keys

        return stored_keys(place.read(self._front), count)


def _shard_file(shard: int) -> str:
    return f"{shard:05d}.h5"
