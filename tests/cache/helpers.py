"""A small store with one failed sample, on any storage and in any format."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epalm.cache.create_store import create_store
from epalm.cache.readers.feature_source import KeyIndex, StoreReader
from epalm.cache.readers.memory_reader import MemoryReader, ShardMap
from epalm.cache.records.file_state import MediaFile
from epalm.cache.records.media_table import describe_files
from epalm.cache.records.record_summary import SUMMARY_FILE
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.cache.store import Store

COUNT = 150
KEYS = [f"é/{row}.jpg" for row in range(COUNT)]
BROKEN = KEYS[70]

LOCATIONS = ("{}/s.zarr", "{}/s.h5", "memory:/{}/s.zarr", "memory:/{}/s.h5")
"""Both formats in a local folder and on a remote file system; {} is the test's own folder."""


def spec(**changes: object) -> StoreSpec:
    fields = {
        "dataset": "coco",
        "encoder": "vit-b16",
        "fingerprint": {"weights": "aa", "preprocessing": "official"},
        "layers": (0, 1),
        "width": 4,
        "count": COUNT,
        "shard_rows": 64,
    }
    return StoreSpec(**(fields | changes))  # type: ignore[arg-type]


def random_features(**changes: object) -> np.ndarray:
    """(N, V, L, D) float32, the features that `fill` writes to a store with these changes."""
    return np.random.default_rng(0).normal(size=spec(**changes).shape).astype(np.float32)


def fill(store: Store, shards: Iterable[int] | None = None) -> Store:
    """Write some shards; the missing ones by default."""
    features = np.random.default_rng(0).normal(size=store.spec.shape).astype(np.float32)
    for shard in store.missing_shards() if shards is None else shards:
        rows = store.spec.rows_of(shard)
        errors = {BROKEN: "truncated"} if KEYS.index(BROKEN) in rows else {}
        store.write_shard(shard, features[rows.start : rows.stop], errors)
    return store


def finished_store(location: str | Path, **changes: object) -> Store:
    store = fill(create_store(location, spec(**changes), KEYS))
    store.finish()
    return store


def reopen(store: Store) -> Store:
    """The store as a new process sees it."""
    return Store.at(store.location)


def describe_media(location: str | Path, root: Path) -> Store:
    """Add media tables, of the files below `root` that the keys name, to a finished store."""
    store = Store.open(location)
    for shard in range(store.spec.shards):
        rows, errors = store.spec.rows_of(shard), store.commit_record(shard).errors
        files = [MediaFile(str(root / key), key) for key in store.keys[rows.start : rows.stop]]
        features = store.load_shard(shard)
        store.uncommit_shard(shard)
        store.write_shard(shard, features, errors, media=describe_files(files, hashed=False))
    store.finish()
    return store


def memory_reader(spec: StoreSpec, keys: Sequence[str], features: np.ndarray) -> StoreReader:
    """A reader of features (N, V, L, D) without a store; rows of NaN are failed samples."""
    failed = [keys[row] for row in np.flatnonzero(np.isnan(features[:, 0, 0, 0])).tolist()]
    reader = MemoryReader(features, ShardMap(spec, range(spec.shards)))
    return StoreReader(KeyIndex(spec, keys, failed), reader)


def edit_json(store: Store, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a JSON file and update its checksum, as an attacker would."""
    fields = load_checksummed(store.storage.read(store.private_name(name)), name)
    edit(fields)
    store.storage.put(store.private_name(name), [dump_checksummed(fields)])


def file_contents(store: Store) -> dict[str, bytes]:
    """Name and content of every file of a store, the main file of HDF5 included.

    The summary of commit records is left out, since only stores on an object store have one.
    """
    names = {*store.storage.names(""), *store.library_files}
    names.discard(store.private_name(SUMMARY_FILE))
    return {name: store.storage.read(name) for name in sorted(names)}
