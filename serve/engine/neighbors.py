"""The samples of a store whose features are nearest to those of an upload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epalm.ask.adapters.adapter_set import SAMPLES
from epalm.cache.formats.store_format import Features
from epalm.cache.maintenance.media_check import read_media_table
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.records.file_state import TO_THE_END
from epalm.cache.store import Store
from epalm.console import byte_size
from epalm.errors import CacheMismatchError, UsageError
from epalm.model.checkpoints.run_record import RunRecord
from epalm.tasks.types import ByteRange, MediaItem, Modality

READ_ROWS = 4096
"""Rows that are read, or compared, at once."""

MAX_BYTES = 4_000_000_000
"""Largest size of the vectors in memory."""

_TINY = 1e-12


class Neighbor(NamedTuple):
    """A sample of the store, and the cosine of its features and those of the upload."""

    key: str
    similarity: float


@dataclass(frozen=True)
class NeighborIndex:
    """The features of a store in memory.

    Attributes:
        keys: the N keys.
        vectors: (N, L x D) float16; features of each block and token divided by their norm, all
            divided by the square root of L, so that products are mean cosines.
        rows: (L) rows of a sample's features that the run uses.
        files: key -> file, for the samples whose files are below the data root.
    """

    keys: Sequence[str]
    vectors: NDArray[np.float16]
    rows: NDArray[np.intp]
    files: Mapping[str, MediaItem]

    @classmethod
    def read(
        cls, location: str, record: RunRecord, modality: Modality, *, data_root: Path | None = None
    ) -> "NeighborIndex":
        """Read a finished store.

        Args:
            location: path or URL of the store.
            record: record of the run, whose encoder must be that of the store.
            modality: modality of the samples.
            data_root: folder of the store's samples; None for where they were at extraction.

        Raises:
            CacheMismatchError: the store has features of another encoder.
            StoreError: there is no store, or it cannot be read.
            UsageError: it does not fit into `MAX_BYTES`.
        """
        store = Store.open(location)
        fields = store.spec.comparable()
        if differing := record.differing(fields, {*fields, *record.store} - SAMPLES):
            raise CacheMismatchError(
                f"{location} has features of another encoder than run {record.name}: {differing[0]}"
            )
        rows = _used_rows(record)
        size = store.spec.count * len(rows) * store.spec.width * 2
        if size > MAX_BYTES:
            raise UsageError(
                f"{location} has {store.spec.count} samples, which take {byte_size(size)} in "
                f"memory, at most {byte_size(MAX_BYTES)} are possible: give --store a smaller one"
            )
        source = open_reader(store)
        valid = source.valid(store.keys)
        keys = [key for key, ok in zip(store.keys, valid, strict=True) if ok]
        vectors = np.empty((len(keys), len(rows) * store.spec.width), np.float16)
        for start in range(0, len(keys), READ_ROWS):
            part = source.read(keys[start : start + READ_ROWS])
            vectors[start : start + len(part)] = _unit_vectors(part, rows)
        root = data_root or Path(store.spec.data_root or ".")
        return cls(keys, vectors, rows, _files(store, root, modality))

    def nearest(self, features: Features, count: int) -> list[Neighbor]:
        """The nearest samples, the most similar first.

        Args:
            features: (L, D) features of a sample.
            count: largest number of samples.
        """
        vector = _unit_vectors(features[None], self.rows)[0]
        similarities = np.empty(len(self.keys), np.float32)
        for start in range(0, len(self.keys), READ_ROWS):
            part = self.vectors[start : start + READ_ROWS].astype(np.float32)
            similarities[start : start + len(part)] = part @ vector
        best = np.argsort(-similarities, kind="stable")[:count]
        return [Neighbor(self.keys[row], min(float(similarities[row]), 1.0)) for row in best]


def _used_rows(record: RunRecord) -> NDArray[np.intp]:
    """Rows of a sample's features that belong to the blocks that the run uses."""
    settings = record.model
    blocks = settings.blocks or tuple(range(settings.cached))
    tokens = np.arange(settings.positions)
    return np.concatenate([block * settings.positions + tokens for block in blocks])


def _unit_vectors(features: Features, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """(N, L x D) float32 from features (N, all rows, D), see `NeighborIndex.vectors`."""
    used = features[:, rows].astype(np.float32)
    norms = np.linalg.norm(used, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = used / np.maximum(norms, _TINY) / np.sqrt(len(rows))
    return unit.reshape(len(used), -1)


def _files(store: Store, root: Path, modality: Modality) -> dict[str, MediaItem]:
    """The file of each sample that has one below the data root; names in a store are only data."""
    files: dict[str, MediaItem] = {}
    inside = root.resolve()
    for shard in range(store.spec.shards):
        table = read_media_table(store, shard)
        if table is None:
            continue
        keys = [store.keys[row] for row in store.spec.rows_of(shard)]
        for key, file in zip(keys, table.files(str(root)), strict=True):
            path = Path(file.path)
            if not file.name or not path.resolve().is_relative_to(inside):
                continue
            whole = file.nbytes == TO_THE_END
            part = None if whole else ByteRange(file.offset, file.nbytes)
            files[key] = MediaItem(key, root, file.name, modality, part)
    return files
