"""Export to safetensors: a folder with one file per shard."""

from epalm.cache.maintenance.exports.arrow_table import metadata_of
from epalm.cache.maintenance.exports.export_format import ExportedShard, Written
from epalm.cache.maintenance.exports.shard_files import has_shard_file, write_shard_file
from epalm.cache.storage.storage import Storage


class SafetensorsExport:
    """Writes `00012.safetensors` with the tensors `features` and `valid`.

    The format has neither text nor nulls: the metadata have `keys` and `errors` (key -> reason),
    and the features of failed samples are NaN.
    """

    def __init__(self, location: str, storage: Storage) -> None:
        """See `export_format`."""
        del location
        self._storage = storage

    def write(self, shard: ExportedShard) -> Written:
        """See `ExportFormat.write`."""
        from safetensors.numpy import save

        metadata = metadata_of(shard, keys=list(shard.keys), errors=dict(shard.errors))
        data = save({"features": shard.features, "valid": shard.valid}, metadata=metadata)
        return write_shard_file(self._storage, f"{shard.shard:05d}.safetensors", [data])

    def has(self, written: Written) -> bool:
        """See `ExportFormat.has`."""
        return has_shard_file(self._storage, written)

    def publish(self, written: object) -> None:
        """Do nothing: every file can be read on its own."""
