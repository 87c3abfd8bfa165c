"""What a format of exports does: write one shard, and publish the finished export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from epalm.cache.formats.store_format import Features, Valid
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.storage import Storage
from epalm.plugins import load_plugin

EXPORT_FORMATS = {
    "parquet": "epalm.cache.maintenance.exports.parquet_export:ParquetExport",
    "lance": "epalm.cache.maintenance.exports.lance_export:LanceExport",
    "safetensors": "epalm.cache.maintenance.exports.safetensors_export:SafetensorsExport",
}
"""Format name -> its class, whose arguments are the export's location and its storage."""

Written = Mapping[str, Any]
"""What a format records about a shard that it has written, as JSON values."""


@dataclass(frozen=True)
class ExportedShard:
    """A shard of a store, as an export writes it.

    Attributes:
        shard: shard number.
        spec: spec of the store.
        store: digest of the store's settings and keys.
        keys: (rows,) the key of each row.
        features: (rows, V, L, D) in the store's dtype; NaN in the rows of failed samples.
        valid: (rows,) whether each sample could be encoded.
        errors: key -> reason of each failed sample.
    """

    shard: int
    spec: StoreSpec
    store: str
    keys: Sequence[str]
    features: Features
    valid: Valid
    errors: Mapping[str, str]


class ExportFormat(Protocol):
    """Writes the shards of a store in a format of another library."""

    def write(self, shard: ExportedShard) -> Written:
        """Write a shard so that it is complete or absent; what `publish` needs to know of it."""

    def has(self, written: Written) -> bool:
        """Whether the files of a shard that was written earlier are all there."""

    def publish(self, written: Sequence[Written]) -> None:
        """Complete the export, given what was written of every shard, in order."""


def export_format(name: str, location: str, storage: Storage) -> ExportFormat:
    """The format with a name.

    Args:
        name: a key of `EXPORT_FORMATS`.
        location: path or URL of the export.
        storage: files of the export.

    Raises:
        UsageError: the name is unknown, or the format cannot write to such a location.
        MissingToolError: the library of the format is not installed.
    """
    make: Callable[[str, Storage], ExportFormat] = load_plugin(
        name, EXPORT_FORMATS, what="export format", option="--format"
    )
    return make(location, storage)
