"""The simulation of a cluster: it loses nothing, and it notices where the store would."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from bench import scale
from bench.scale import BAD, SCENARIOS, Outcome, simulate
from bench.support.simulation.row_check import RowCheck, check_rows
from bench.support.simulation.simulated_bucket import BucketFaults
from bench.support.simulation.simulated_cluster import (
    FAILING,
    WorkerFaults,
    cluster_spec,
    failing_rows,
    feature_rows,
    row_features,
)
from bench.support.simulation.virtual_time import Killed, SimulatedProcess, VirtualTime
from epalm.cache.create_store import create_store
from epalm.cache.formats.store_format import Features
from epalm.cache.records.media_table import MediaTable
from epalm.cache.storage import retries
from epalm.cache.store import Store

SAMPLES, SHARD_ROWS = 3000, 192

HARD = WorkerFaults(life_seconds=400, gone=0.2, back_seconds=120, stall_seconds=300)
"""A shard takes 48 seconds, so that workers die and stall in the midst of shards."""

FLAKY = BucketFaults(errors=0.05, slow=0.05, stale=0.5)


def small(worker_faults: WorkerFaults, bucket_faults: BucketFaults, seed: int = 1) -> Outcome:
    return simulate(
        SAMPLES,
        8,
        worker_faults,
        bucket_faults,
        seed=seed,
        samples_per_second=4.0,
        shard_rows=SHARD_ROWS,
    )


@pytest.fixture(scope="module")
def hard() -> Outcome:
    return small(HARD, FLAKY)


def test_no_row_is_lost_or_doubled_while_everything_goes_wrong(hard: Outcome) -> None:
    outcome = hard
    log = outcome.log
    assert outcome.rows == RowCheck(0, 0, 0, 0, 0)
    assert min(log.killed, log.stalled, outcome.errors, outcome.stale) > 0
    assert log.started > 8 + log.killed // 2
    assert 0 < log.lost < 1
    assert sorted(log.committed) == list(range(16))


def test_a_seed_gives_the_same_simulation_again(hard: Outcome) -> None:
    assert replace(small(HARD, FLAKY), seconds=hard.seconds) == hard


def test_without_faults_nothing_is_done_twice() -> None:
    outcome = small(WorkerFaults(), BucketFaults())
    log = outcome.log
    assert outcome.rows.passed
    assert (log.started, log.killed, log.stalled, log.rounds) == (8, 0, 0, 0)
    assert log.lost == 0
    assert set(log.attempts.values()) == {1}
    # spec.json, 6 files for zarr, 3 per shard (no media tables), errors.jsonl; all 8 processes
    # may write files for zarr at once, and each writes a summary
    assert 8 + 3 * 16 <= outcome.requests["PUT"] <= 8 + 3 * 16 + 8 * 8


def test_requests_that_fail_are_repeated_and_end_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flaky = BucketFaults(errors=0.1)
    outcome = small(WorkerFaults(), flaky)
    assert outcome.errors > 10
    assert not outcome.log.failed
    monkeypatch.setattr(retries, "TRIES", 1)
    outcome = small(WorkerFaults(), flaky)
    assert outcome.log.failed["StoreError"] > 3  # each costs a restart and its current shard
    assert outcome.rows.passed


def record_first(
    store: Store,
    shard: int,
    features: Features,
    errors: Mapping[str, str],
    *,
    media: MediaTable | None = None,
) -> None:
    """A defect: the commit record is written before the files that it promises."""
    original = store._put

    def put(name: str, parts: list[bytes]) -> None:
        waiting.append((name, parts))

    waiting: list[tuple[str, list[bytes]]] = []
    store._put = put  # type: ignore[method-assign, assignment]
    try:
        WRITE(store, shard, features, errors, media=media)
    finally:
        store._put = original  # type: ignore[method-assign]
    for name, parts in reversed(waiting):
        store._put(name, parts)


WRITE = Store.write_shard


def test_a_record_that_is_written_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "write_shard", record_first)
    slow = BucketFaults(slow=1.0, slow_factor=400)  # writes take as long as the encoding
    outcome = small(replace(HARD, stall_seconds=0), slow)
    assert outcome.rows.damaged > 0
    assert outcome.rows.missing > 0
    assert small(replace(HARD, stall_seconds=0), BucketFaults()).rows.damaged == 0


def test_a_shard_that_nobody_owns_is_found_and_done_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome = small(replace(HARD, gone=1.0, stall_seconds=0), BucketFaults())
    assert outcome.rows.passed
    assert outcome.log.rounds > 0


def test_rows_of_another_shard_are_missing_doubled_and_misplaced() -> None:
    spec = cluster_spec(1024, 512)
    store = create_store("memory://check/s.zarr", spec, [str(row) for row in range(1024)])
    for shard in range(2):
        store.write_shard(shard, row_features(np.arange(512)), {})
    store.finish()
    assert check_rows(store) == RowCheck(512, 512, 512, 0, 0)


def test_a_failed_sample_without_its_reason_is_noticed() -> None:
    spec = cluster_spec(FAILING + 1, 10048)
    keys = [str(row) for row in range(spec.count)]
    store = create_store("memory://check/t.zarr", spec, keys)
    features = row_features(np.arange(spec.count))
    store.write_shard(0, features, {keys[3]: "not that one"})
    store.finish()
    checked = check_rows(store)
    assert (checked.wrong_failures, checked.missing) == (2, 0)
    assert not checked.passed


def test_rows_are_exact_in_float16() -> None:
    rows = np.array([0, 1023, 1024, 1024**2, 99_999_999])
    assert feature_rows(row_features(rows)).tolist() == rows.tolist()
    assert list(failing_rows(range(0, 3 * FAILING))) == [FAILING * n - 1 for n in (1, 2, 3)]
    assert list(failing_rows(range(FAILING, FAILING + 5))) == []


def test_time_kills_and_stalls_processes() -> None:
    clock, seen = VirtualTime(), list[tuple[str, float]]()

    def work(name: str) -> None:
        for _ in range(3):
            clock.sleep(10)
            seen.append((name, clock.now))

    ended: list[SimulatedProcess] = []
    killed, stalled = (
        clock.start(lambda name=name: work(name), ended.append)  # type: ignore[misc]
        for name in ("killed", "stalled")
    )
    clock.at(15, lambda: clock.kill(killed))
    clock.at(25, lambda: clock.stall(stalled, 100))
    clock.run()
    assert seen == [("killed", 10), ("stalled", 10), ("stalled", 20), ("stalled", 130)]
    assert isinstance(killed.error, Killed)
    assert stalled.error is None
    assert ended == [killed, stalled]


def test_time_ends_with_the_last_process() -> None:
    clock = VirtualTime()
    clock.at(10_000, lambda: pytest.fail("nobody is left whom this could happen to"))
    clock.start(lambda: clock.sleep(10), lambda _: None)
    clock.run()
    assert clock.now == 10


def test_the_scenarios_of_the_report_have_workers_and_a_bucket_that_fail() -> None:
    assert SCENARIOS["everything"] == (scale.DYING, BAD)
    assert SCENARIOS["nothing"] == (WorkerFaults(), BucketFaults())
