"""Export to Lance: one dataset with a fragment per shard.

The fragments are written one by one and become a dataset by one commit at the end, which is how
Lance writes from several processes. Until then there is no dataset, and readers of an earlier
version keep seeing that one.
"""

import json
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from epalm.atomic_write import sync
from epalm.cache.maintenance.exports.arrow_table import arrow_table
from epalm.cache.maintenance.exports.export_format import ExportedShard, Written
from epalm.cache.storage.storage import Storage
from epalm.errors import MissingToolError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

FRAGMENTS, SCHEMA = "fragments", "schema"

DATA, VERSIONS = "data", "_versions"
"""Folders of a Lance dataset."""


class LanceExport:
    """Writes a Lance dataset in a local folder."""

    def __init__(self, location: str, storage: Storage) -> None:
        """See `export_format`; raises UsageError for a URL, MissingToolError without pylance."""
        del storage
        if "://" in location:
            raise UsageError(
                f"--format lance writes to a local folder, and {location} is a URL: export to a "
                "folder, then copy it"
            )
        os.environ.setdefault("LANCE_LOG", "error")  # else it warns of each new dataset
        try:
            import lance  # noqa: F401
        except ImportError as error:
            raise MissingToolError(
                "an export to lance needs pylance: pip install 'epalm[lance]'"
            ) from error
        self._folder = Path(location)

    def write(self, shard: ExportedShard) -> Written:
        """See `ExportFormat.write`; a killed writer leaves a file that `publish` deletes."""
        from lance.fragment import write_fragments

        table = arrow_table(shard)
        fragments = write_fragments(
            table, str(self._folder), schema=table.schema, max_rows_per_file=table.num_rows
        )
        texts = [json.dumps(fragment.to_json()) for fragment in fragments]
        written = {FRAGMENTS: texts, SCHEMA: _schema_text(table.schema)}
        for file in [*self._files(written), self._folder / DATA]:
            sync(file)
        return written

    def has(self, written: Written) -> bool:
        """See `ExportFormat.has`."""
        return all(file.is_file() for file in self._files(written))

    def publish(self, written: Sequence[Written]) -> None:
        """Commit the fragments as one version, then delete all others and their files."""
        import lance

        fragments = [
            lance.FragmentMetadata.from_json(text) for one in written for text in one[FRAGMENTS]
        ]
        schema = _schema(written[0][SCHEMA])
        operation = lance.LanceOperation.Overwrite(schema, fragments)
        dataset = lance.LanceDataset.commit(str(self._folder), operation)
        versions = self._folder / VERSIONS
        for path in [*versions.iterdir(), versions]:
            sync(path)
        dataset.cleanup_old_versions(timedelta(0), delete_unverified=True)

    def _files(self, written: Written) -> list[Path]:
        fragments = [json.loads(text) for text in written[FRAGMENTS]]
        paths = (str(file["path"]) for one in fragments for file in one["files"])
        return [self._folder / DATA / path for path in paths]


def _schema_text(schema: "pa.Schema") -> str:
    return bytes(schema.serialize()).hex()


def _schema(text: str) -> "pa.Schema":
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(text)))
