"""Write a feature store from a pipeline of Ray Data: `epalm.ray.StoreDatasink`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray
from ray.data import Datasink
from ray.data.block import BlockAccessor

from epalm.api.batch_encoder import ERROR, FEATURES, FINGERPRINT, fingerprint_digest
from epalm.api.batch_samples import NBYTES, OFFSET
from epalm.api.command_values import options_from
from epalm.cache.records.media_table import MediaTable, describe_files
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, UsageError
from epalm.extract.cli import app
from epalm.extract.decoding.media_files import media_files
from epalm.extract.planning.extract_inputs import read_inputs
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.extraction_plan import make_plan
from epalm.extract.planning.store_rows import Target, open_target
from epalm.plugins import TypedName
from epalm.tasks.types import ByteRange, MediaItem

KEY, ROW, PATH = "key", "row", "path"
"""Columns of `StoreDatasink.samples`, besides those of the place in a file."""

COLUMNS = (KEY, ROW, FEATURES, ERROR, FINGERPRINT)
"""Columns that are written."""


class StoreDatasink(Datasink):  # type: ignore[misc]  # Ray's types are not read
    """Writes whole shards of the store that `epalm-extract` would make, with the same bytes.

    The store is created, or opened to resume it, when the datasink is made. `samples` is a dataset
    of the rows of its missing shards, and `write_from` writes them once `epalm.ray.Encode` has
    added features, with any steps in between that keep the rows.

        sink = epalm.ray.StoreDatasink("vit-b16", "/data/photos", out="photos.zarr")
        encoded = sink.samples().map_batches(
            epalm.ray.Encode, fn_constructor_kwargs={"encoder": "vit-b16"}, batch_size=64
        )
        sink.write_from(encoded)

    A write task gets one block for each shard, with all of its rows. It refuses other blocks and
    features of another encoder, so a row is never missing, twice, or in the wrong place. Shards
    that are finished are skipped; a killed pipeline is resumed by running it again.

    Attributes:
        location: path or URL of the store.
        shard_rows: rows of a shard, and of a block.
        fingerprint: every setting that could change a feature.
    """

    def __init__(self, encoder: str, dataset: str | Path, **options: Any) -> None:  # noqa: ANN401
        """Create or open the store; this loads the encoder for its fingerprint.

        Args:
            encoder: name of the encoder.
            dataset: name of a dataset, or path of a manifest.
            options: the options of `epalm-extract`, e.g. `out="photos.zarr"`. `Encode` needs the
                same ones about the encoder; `precision` should be given if this machine and the
                actors have different devices.

        Raises:
            EpalmError: as `epalm-extract`.
        """
        values = {**options, "encoder": encoder, "dataset": str(dataset)}
        given = options_from(ExtractOptions, app, values, function="epalm.ray.StoreDatasink")
        typed = replace(given, encoder=TypedName(encoder), dataset=TypedName(str(dataset)))
        target = open_target(make_plan(read_inputs(typed)), typed)
        location = target.store.location
        self.location = location if "://" in location else str(Path(location).absolute())
        self.shard_rows = target.store.spec.shard_rows
        self.fingerprint: Mapping[str, str] = target.store.spec.fingerprint
        self._store_format = target.plan.store_format
        self._root = str(target.plan.root)
        self._digest = fingerprint_digest(self.fingerprint)
        self._target: Target | None = target

    def __getstate__(self) -> dict[str, object]:
        """What write tasks need; the list of samples stays here."""
        return {**self.__dict__, "_target": None}

    def samples(self) -> "ray.data.Dataset":
        """The samples of the missing shards, a block for each shard, in the order of the rows.

        Its columns are "key", "row", "path", and "offset" and "nbytes" for a part of a file.

        Raises:
            UsageError: the dataset lacks samples of the store, which a pipeline cannot encode.
        """
        assert self._target is not None
        return ray.data.from_arrow(list(_sample_tables(self._target)))

    def write_from(self, dataset: "ray.data.Dataset") -> None:
        """Write the encoded samples; the store is finished if no shard is missing after that.

        Args:
            dataset: rows of `samples` with the columns that `Encode` adds, in the same order.
        """
        dataset.context.execution_options.preserve_order = True
        blocks = dataset.repartition(target_num_rows_per_block=self.shard_rows, strict=True)
        blocks.write_datasink(self)

    def write(self, blocks: Iterable[Any], ctx: Any) -> int:  # noqa: ANN401 - Ray's types
        """Write each block as a shard; the number of shards written.

        Raises:
            UsageError: a block is not a whole shard in order.
            CacheMismatchError: the features were made with other settings.
        """
        del ctx
        store = Store.at(self.location, self._store_format).latest()
        written = 0
        for block in blocks:
            columns: dict[str, NDArray[Any]] = BlockAccessor.for_block(block).to_numpy()
            if absent := [name for name in COLUMNS if name not in columns]:
                raise UsageError(
                    f"a block has no column {absent[0]!r}, only {', '.join(columns)}: pass rows of "
                    "samples() to which epalm.ray.Encode has added features"
                )
            if len(columns[ROW]):
                written += self._write_shard(store, columns)
        return written

    def _write_shard(self, store: Store, columns: Mapping[str, NDArray[Any]]) -> bool:
        """Write one block, unless its shard is finished."""
        shard = self._shard_of(store, columns)
        if store.has_shard(shard):
            return False
        keys, reasons = columns[KEY].tolist(), columns[ERROR].tolist()
        errors = {key: reason for key, reason in zip(keys, reasons, strict=True) if reason}
        features = np.stack(list(columns[FEATURES])).astype(store.spec.dtype, copy=False)
        table = self._media_table(columns, hashed=store.spec.content_hash)
        store.write_shard(shard, features, errors, media=table)
        return True

    def _shard_of(self, store: Store, columns: Mapping[str, NDArray[Any]]) -> int:
        """The number of the shard whose rows a block has."""
        rows = columns[ROW]
        shard = int(rows[0]) // self.shard_rows
        expected = store.spec.rows_of(shard)
        if rows.tolist() != list(expected):
            raise UsageError(
                f"a block has {len(rows)} rows from row {rows[0]} on, expected the "
                f"{len(expected)} rows {expected.start} to {expected.stop - 1} of shard {shard} of "
                f"{self.location}, in this order: pass the rows of samples() to write_from(), "
                "without dropping, adding or sorting any"
            )
        if columns[KEY].tolist() != list(store.keys[expected.start : expected.stop]):
            raise UsageError(f"shard {shard}: the keys are not those of the rows of samples()")
        if set(columns[FINGERPRINT].tolist()) != {self._digest}:
            raise CacheMismatchError(
                f"the features of shard {shard} were made with other settings than "
                f"{self.location}: give Encode the same encoder and options as the datasink, and "
                "both the same precision"
            )
        return shard

    def _media_table(self, columns: Mapping[str, NDArray[Any]], *, hashed: bool) -> MediaTable:
        """The state of the files, as `epalm-extract` records it."""
        rows = len(columns[KEY])
        items = list(_items(columns)) if PATH in columns else []
        table = MediaTable.unknown(rows, hashed=hashed)
        if items:
            files = media_files(items, Path(self._root))
            table.put(range(rows), describe_files(files, hashed=hashed))
        return table

    def on_write_complete(self, write_result: Any) -> None:  # noqa: ANN401 - Ray's type
        """Finish the store if no shard is missing."""
        del write_result
        store = Store.at(self.location, self._store_format).latest()
        if not store.missing_shards():
            store.finish()


def _sample_tables(target: Target) -> Iterator[pa.Table]:
    """A table of each missing shard; samples of the dataset have a file each."""
    store = target.store
    for shard in store.missing_shards():
        rows = store.spec.rows_of(shard)
        items = target.items[rows.start : rows.stop]
        present = [item for item in items if item is not None]
        if len(present) < len(items):
            raise UsageError(
                f"{len(items) - len(present)} samples of shard {shard} of {store.location} are not "
                "in the dataset any more: run epalm-extract, which keeps their rows"
            )
        yield pa.table(
            {
                KEY: [item.key for item in present],
                ROW: pa.array(rows, pa.int64()),
                PATH: [str(item.path.absolute()) for item in present],
                OFFSET: pa.array([item.part.offset if item.part else -1 for item in present]),
                NBYTES: pa.array([item.part.nbytes if item.part else 0 for item in present]),
            }
        )


def _items(columns: Mapping[str, NDArray[Any]]) -> Iterator[MediaItem]:
    """The sample of each row, for its file."""
    offsets = columns.get(OFFSET, np.full(len(columns[KEY]), -1))
    sizes = columns.get(NBYTES, offsets)
    for key, path, offset, size in zip(columns[KEY], columns[PATH], offsets, sizes, strict=True):
        part = ByteRange(int(offset), int(size)) if offset >= 0 else None
        yield MediaItem.from_path(Path(path), key)._replace(part=part)
