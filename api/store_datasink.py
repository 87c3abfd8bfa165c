"""Write a feature store from a pipeline of Ray Data: `epalm.ray.StoreDatasink`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray.data
from numpy.typing import NDArray
from ray.data import Datasink
from ray.data.block import BlockAccessor
from ray.exceptions import RayTaskError

from epalm.api.batch_encoder import ERROR, FEATURES, FINGERPRINT, fingerprint_digest
from epalm.api.command_values import options_from
from epalm.api.shard_tables import KEY, ROW, FileStates, media_table, sample_tables
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, EpalmError, UsageError
from epalm.extract.cli import app
from epalm.extract.planning.extract_inputs import read_inputs
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.extraction_plan import make_plan
from epalm.extract.planning.store_rows import Target, open_target
from epalm.plugins import TypedName

STATE_ROWS = 64
"""Number of samples whose files are examined before they are decoded."""

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

        Its columns are "key", "row", "path", "offset" and "nbytes" for a part of a file, and the
        state of the file just before the next step: "file_size", "file_mtime_ns" and, in stores
        with content hashes, "file_sha256".

        Raises:
            UsageError: the dataset lacks samples of the store, which a pipeline cannot encode.
        """
        assert self._target is not None
        samples = ray.data.from_arrow(list(sample_tables(self._target)))
        states: Any = FileStates(self._root, self._target.store.spec.content_hash)
        return samples.map_batches(states, batch_size=STATE_ROWS)

    def write_from(self, dataset: "ray.data.Dataset") -> None:
        """Write the encoded samples; the store is finished if no shard is missing after that.

        Args:
            dataset: rows of `samples` with the columns that `Encode` adds, in the same order.

        Raises:
            UsageError: the rows are not those of `samples`.
            CacheMismatchError: the features were made with other settings.
        """
        dataset.context.execution_options.preserve_order = True
        blocks = dataset.repartition(target_num_rows_per_block=self.shard_rows, strict=True)
        try:
            blocks.write_datasink(self)
        except RayTaskError as error:
            if isinstance(error.cause, EpalmError):
                raise error.cause from error
            raise

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
            accessor = BlockAccessor.for_block(block)
            if not accessor.num_rows():  # nothing was missing; its columns are unknown
                continue
            columns = cast("dict[str, NDArray[Any]]", accessor.to_numpy())
            if absent := [name for name in COLUMNS if name not in columns]:
                raise UsageError(
                    f"a block has no column {absent[0]!r}, only {', '.join(columns)}: pass rows of "
                    "samples() to which epalm.ray.Encode has added features"
                )
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
        table = media_table(columns, self._root, hashed=store.spec.content_hash)
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

    def on_write_complete(self, write_result: Any) -> None:  # noqa: ANN401 - Ray's type
        """Finish the store if no shard is missing."""
        del write_result
        store = Store.at(self.location, self._store_format).latest()
        if not store.missing_shards():
            store.finish()
