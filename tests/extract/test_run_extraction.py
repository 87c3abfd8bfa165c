"""Every sample is encoded once, into its own row, and an interrupted run resumes."""

import json
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from epalm.cache.store import Store
from epalm.errors import ModelError, Stopped, StoreError
from epalm.extract import run_extraction
from epalm.extract.decoding.decode_batch import LoadedBatch
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.planning.shard_jobs import Job, blank_rows
from epalm.extract.run_extraction import EncodedShard, extract
from tests.extract.helpers import CountingEncoder, counting_store, numbered, tree_bytes

OPTIONS = RunOptions(batch_size=10, workers=0, quiet=True)


def stored(path: Path, name: str = "cls") -> np.ndarray:
    array = zarr.open_group(path, mode="r")[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def finished(path: Path, items: list, **options: int) -> Path:
    extract(CountingEncoder(), items, counting_store(path, items, **options), options=OPTIONS)
    return path


def test_every_sample_is_in_its_row_with_the_oldest_block_first(tmp_path: Path) -> None:
    rows = stored(finished(tmp_path / "a.zarr", numbered(130)))
    expected = 100.0 * np.arange(130)[:, None] + np.arange(1, 7)
    assert rows.shape == (130, 1, 6, 4)
    assert np.array_equal(rows[:, 0, :, 2], expected.astype(np.float16))


def test_every_view_lands_in_its_place(tmp_path: Path) -> None:
    rows = stored(finished(tmp_path / "a.zarr", numbered(7), views=3))
    expected = 100.0 * np.arange(7)[:, None] + 10 * np.arange(3) + 6
    assert np.array_equal(rows[:, :, -1, 0], expected)


def test_a_failed_sample_is_nan_invalid_and_listed(tmp_path: Path) -> None:
    items = numbered(70, broken=[3, 66])
    sink = counting_store(tmp_path / "a.zarr", items)
    report = extract(CountingEncoder(), items, sink, options=OPTIONS)
    rows, valid = stored(tmp_path / "a.zarr"), stored(tmp_path / "a.zarr", "valid")
    assert np.flatnonzero(~valid).tolist() == [3, 66]
    assert np.isnan(rows[[3, 66]]).all()
    assert np.isfinite(rows[valid]).all()
    lines = (tmp_path / "a.zarr/epalm/errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["k3", "k66"]
    assert (report.records, report.encoded, report.failed) == (70, 70, 2)


def test_a_batch_without_any_decodable_sample_is_skipped(tmp_path: Path) -> None:
    rows = stored(finished(tmp_path / "a.zarr", numbered(30, broken=range(10, 20))))
    assert np.isnan(rows[10:20]).all()
    assert np.isfinite(rows[20:]).all()


def test_batches_fill_a_shard_and_end_with_it(tmp_path: Path) -> None:
    items, encoder = numbered(70), CountingEncoder()
    extract(encoder, items, counting_store(tmp_path / "a.zarr", items), options=OPTIONS)
    assert encoder.batch_sizes == [10] * 6 + [4, 6]


def test_a_shard_is_freed_when_it_is_written_while_the_next_one_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def noted(store: Store, job: Job, *, result: EncodedShard, jobs: list[Job]) -> None:
        shards.append(weakref.ref(result.tokens))
        write_result(store, job, result=result, jobs=jobs)

    class WaitingEncoder(CountingEncoder):
        def blocks(self, *batch: torch.Tensor, **options: Any) -> list[torch.Tensor]:  # noqa: ANN401
            if len(self.batch_sizes) % 7 == 6:  # the last batch of a shard
                until = time.monotonic() + 20
                while any(shard() is not None for shard in shards) and time.monotonic() < until:
                    time.sleep(0.001)
                alive.append(sum(shard() is not None for shard in shards))
            return super().blocks(*batch, **options)

    write_result = run_extraction.write_result
    monkeypatch.setattr(run_extraction, "write_result", noted)
    items = numbered(4 * 64)
    extract(WaitingEncoder(), items, counting_store(tmp_path / "a.zarr", items), options=OPTIONS)
    assert alive == [0, 0, 0, 0]


def test_rows_are_nan_until_they_are_encoded() -> None:
    tokens = np.full((8, 1, 1, 1), 7.0, np.float16)
    batches = [LoadedBatch(rows, [0] * len(rows), None, {}, 0) for rows in ([1, 3], [], [2])]
    counts = [int(np.isnan(tokens).sum()) for _ in blank_rows(tokens, iter(batches), 1)]
    assert counts == [3, 3, 3]  # rows 1 to 3; row 0 has features of an earlier run
    assert np.isnan(tokens).ravel().tolist() == [False] + [True] * 7


def test_an_interrupted_run_resumes_and_ends_with_identical_bytes(tmp_path: Path) -> None:
    items = numbered(200, broken=[5, 150])
    whole = finished(tmp_path / "whole.zarr", items)
    path = tmp_path / "a.zarr"
    with pytest.raises(Stopped, match="stopped with 2 of 4 shards to do"):
        extract(
            CountingEncoder(interrupt_after=17), items, counting_store(path, items), options=OPTIONS
        )
    encoder = CountingEncoder()
    report = extract(encoder, items, counting_store(path, items), options=OPTIONS)
    assert report.encoded == sum(encoder.batch_sizes) + 1 == 72
    assert tree_bytes(path) == tree_bytes(whole)


def test_a_lost_commit_record_is_made_again_with_identical_bytes(tmp_path: Path) -> None:
    items = numbered(200)
    path = finished(tmp_path / "a.zarr", items)
    before = tree_bytes(path)
    (path / "epalm/done/00001.json").unlink()
    encoder = CountingEncoder()
    extract(encoder, items, counting_store(path, items), options=OPTIONS)
    assert sum(encoder.batch_sizes) == 64
    assert tree_bytes(path) == before


def test_a_finished_store_is_not_encoded_again(tmp_path: Path) -> None:
    items = numbered(10, broken=[2])
    path = finished(tmp_path / "a.zarr", items)
    encoder = CountingEncoder()
    report = extract(encoder, items, counting_store(path, items), options=OPTIONS)
    assert encoder.batch_sizes == []
    assert (report.encoded, report.failed) == (0, 1)


@pytest.mark.slow
def test_workers_change_no_byte(tmp_path: Path) -> None:
    items = numbered(130, broken=[64])
    path = tmp_path / "workers.zarr"
    options = RunOptions(batch_size=10, workers=2, quiet=True)
    extract(CountingEncoder(), items, counting_store(path, items), options=options)
    assert tree_bytes(path) == tree_bytes(finished(tmp_path / "alone.zarr", items))


def test_a_value_that_float16_cannot_hold_ends_the_run_with_advice(tmp_path: Path) -> None:
    items = numbered(700)[-10:]
    with pytest.raises(StoreError, match=r"maximum of float16 is 65504.*--dtype float32"):
        finished(tmp_path / "a.zarr", items)


def test_a_full_disk_ends_the_run_instead_of_losing_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = numbered(200)
    sink = counting_store(tmp_path / "a.zarr", items)

    def full(*_: object, **__: object) -> None:
        raise StoreError("no space left on device")

    monkeypatch.setattr(sink, "write_shard", full)
    with pytest.raises(StoreError, match="no space left"):
        extract(CountingEncoder(), items, sink, options=OPTIONS)


def test_a_device_out_of_memory_is_one_error_with_advice(tmp_path: Path) -> None:
    class Hungry(CountingEncoder):
        def blocks(self, batch: torch.Tensor, **_: object) -> list[torch.Tensor]:
            raise torch.OutOfMemoryError("tried to allocate 40 GiB")

    items = numbered(10)
    sink: Store = counting_store(tmp_path / "a.zarr", items)
    with pytest.raises(ModelError, match=r"40 GiB.*use a smaller --batch-size"):
        extract(Hungry(), items, sink, options=OPTIONS)
