"""Export to Parquet: a folder with one file per shard, which every Arrow reader opens."""

from epalm.cache.maintenance.exports.arrow_table import arrow_table, require_pyarrow
from epalm.cache.maintenance.exports.export_format import ExportedShard, Written
from epalm.cache.maintenance.exports.shard_files import has_shard_file, write_shard_file
from epalm.cache.storage.storage import Storage

ROW_GROUP_ROWS = 1024
"""Rows per row group: a reader that wants few rows decodes 9 MB of 6 x 768 in float16."""


class ParquetExport:
    """Writes `00012.parquet`, uncompressed: features do not compress."""

    def __init__(self, location: str, storage: Storage) -> None:
        """See `export_format`; raises MissingToolError without pyarrow."""
        del location
        require_pyarrow(extra="parquet")
        self._storage = storage

    def write(self, shard: ExportedShard) -> Written:
        """See `ExportFormat.write`."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(
            arrow_table(shard),
            sink,
            row_group_size=ROW_GROUP_ROWS,
            compression="none",
            use_dictionary=False,
            write_statistics=["key", "valid"],
        )
        data = np.frombuffer(sink.getvalue(), np.uint8)
        return write_shard_file(self._storage, f"{shard.shard:05d}.parquet", [data])

    def has(self, written: Written) -> bool:
        """See `ExportFormat.has`."""
        return has_shard_file(self._storage, written)

    def publish(self, written: object) -> None:
        """Do nothing: every file can be read on its own."""
