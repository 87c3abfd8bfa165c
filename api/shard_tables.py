"""Samples of a store as tables, one for each shard, as they pass through a pipeline of Ray Data.

Each row has the sample's key, its row in the store, and the place of its file. The state of the
file is added just before it is decoded, so a file that is replaced afterwards is found to have
changed, as with `epalm-extract`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from epalm.api.batch_samples import NBYTES, OFFSET
from epalm.cache.records.file_state import MediaFile
from epalm.cache.records.media_table import MediaTable, describe_files
from epalm.errors import UsageError
from epalm.extract.decoding.media_files import media_files
from epalm.tasks.types import ByteRange, MediaItem

if TYPE_CHECKING:
    from epalm.extract.planning.store_rows import Target

KEY, ROW, PATH = "key", "row", "path"
"""Columns of a sample, besides those of the place in a file."""

SIZE, CHANGED, HASH = "file_size", "file_mtime_ns", "file_sha256"
"""Columns of the state of a file; the last one only in stores with content hashes."""

Columns: TypeAlias = Mapping[str, NDArray[Any]]

SCHEMA = pa.schema(
    {
        KEY: pa.string(),
        ROW: pa.int64(),
        PATH: pa.string(),
        OFFSET: pa.int64(),
        NBYTES: pa.int64(),
    }
)
"""A negative offset stands for a whole file."""


def sample_tables(target: "Target") -> Iterator[pa.Table]:
    """A table of each missing shard, in the order of the rows; one without rows if there is none.

    Raises:
        UsageError: the dataset lacks samples of a missing shard.
    """
    store = target.store
    missing = store.missing_shards()
    for shard in missing:
        rows = store.spec.rows_of(shard)
        items = target.items[rows.start : rows.stop]
        present = [item for item in items if item is not None]
        if len(present) < len(items):
            raise UsageError(
                f"{len(items) - len(present)} samples of shard {shard} of {store.location} are not "
                "in the dataset any more: run epalm-extract, which keeps their rows"
            )
        columns = [
            [item.key for item in present],
            list(rows),
            [str(item.path.absolute()) for item in present],
            [item.part.offset if item.part else -1 for item in present],
            [item.part.nbytes if item.part else 0 for item in present],
        ]
        yield pa.table(columns, schema=SCHEMA)
    if not missing:
        yield SCHEMA.empty_table()


@dataclass(frozen=True)
class FileStates:
    """A function of batches that adds the state of the samples' files.

    Attributes:
        root: data root.
        hashed: whether the content is hashed, too.
    """

    root: str
    hashed: bool

    def __call__(self, batch: Columns) -> dict[str, NDArray[Any]]:
        """The batch with columns for the size, the modification time and the hash."""
        table = describe_files(_files(batch, self.root), hashed=self.hashed)
        states = {SIZE: table.numbers[:, 0], CHANGED: table.numbers[:, 1]}
        if table.hashes is not None:
            states[HASH] = np.array([row.tobytes() for row in table.hashes], dtype=object)
        return {**batch, **states}


def media_table(columns: Columns, root: str, *, hashed: bool) -> MediaTable:
    """The media table of a shard, from the columns of its rows; unknown states without them."""
    rows = len(columns[KEY])
    table = MediaTable.unknown(rows, hashed=hashed)
    if any(name not in columns for name in (PATH, SIZE, CHANGED)):
        return table
    files = _files(columns, root)
    table.names[:] = [file.name for file in files]
    table.numbers[:, 0], table.numbers[:, 1] = columns[SIZE], columns[CHANGED]
    table.numbers[:, 2:] = [file[2:] for file in files]
    if table.hashes is not None and HASH in columns:
        table.hashes[:] = [np.frombuffer(digest, np.uint8) for digest in columns[HASH]]
    return table


def _files(columns: Columns, root: str) -> list[MediaFile]:
    """The file of each row."""
    offsets = columns.get(OFFSET, np.full(len(columns[KEY]), -1))
    sizes = columns.get(NBYTES, offsets)
    places = zip(columns[KEY], columns[PATH], offsets, sizes, strict=True)
    items = [
        MediaItem.from_path(Path(path), key)._replace(
            part=ByteRange(int(offset), int(size)) if offset >= 0 else None
        )
        for key, path, offset, size in places
    ]
    return media_files(items, Path(root))
