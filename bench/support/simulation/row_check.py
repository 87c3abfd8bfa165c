"""Count the rows of a finished store: each must be there once, at its place."""

from dataclasses import dataclass

import numpy as np

from bench.support.simulation.simulated_cluster import failing_rows, feature_rows
from epalm.cache.store import Store
from epalm.errors import StoreError


@dataclass(frozen=True)
class RowCheck:
    """What is wrong with a store; all numbers must be 0.

    Attributes:
        missing: rows that no shard has.
        duplicates: rows that are there more than once.
        misplaced: rows that are not at their place.
        wrong_failures: rows that failed without a reason in the commit record, or the reverse.
        damaged: shards that are missing or do not match their commit record.
    """

    missing: int
    duplicates: int
    misplaced: int
    wrong_failures: int
    damaged: int

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        counts = (self.missing, self.duplicates, self.misplaced, self.wrong_failures, self.damaged)
        return not any(counts)


def check_rows(store: Store) -> RowCheck:
    """Read every shard with its checksum, and count the rows that its features name."""
    spec = store.spec
    seen = np.zeros(spec.count, np.uint8)
    misplaced = wrong_failures = damaged = 0
    for shard in range(spec.shards):
        rows = spec.rows_of(shard)
        try:
            features, errors = store.load_shard(shard), store.commit_record(shard).errors
            name = store.format.shard_files(shard)[1]
            valid = np.frombuffer(store.storage.read(name), np.bool_)[: len(rows)]
            store.storage.discard_copy(*_feature_file(store, shard))
        except (StoreError, FileNotFoundError):
            damaged += 1
            continue
        named, places = feature_rows(features), np.arange(rows.start, rows.stop)
        inside = named[(named >= 0) & (named < spec.count)]
        unique, counts = np.unique(inside, return_counts=True)
        seen[unique] = np.minimum(seen[unique] + counts, 2)
        misplaced += int((named[valid] != places[valid]).sum())
        failing = np.isin(places, list(failing_rows(rows)))
        recorded = np.isin(places, [int(key) for key in errors])  # keys are the numbers of rows
        wrong_failures += int(((valid == failing) | (recorded != failing)).sum())
    expected = spec.count - len(failing_rows(range(spec.count)))
    return RowCheck(
        missing=expected - int((seen > 0).sum()),
        duplicates=int((seen > 1).sum()),
        misplaced=misplaced,
        wrong_failures=wrong_failures,
        damaged=damaged,
    )


def _feature_file(store: Store, shard: int) -> tuple[str, str]:
    name = store.format.shard_files(shard)[0]
    return name, store.commit_record(shard).files[name][1]
