"""The benchmarks in bench/: they run and measure the right thing; speed is not tested."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import (
    block_shuffle,
    extraction,
    extraction_memory,
    gather,
    head_loss,
    media_check,
    shard_write,
)
from bench.support import timed_rounds
from bench.support.peak_memory import peak_memory_of
from bench.support.scratch_stores import make_store, row_numbers, scratch_keys, scratch_spec
from bench.support.timed_rounds import Line, Result, Sample, Variant, at_most, compare, interleave
from epalm.cache.readers.epoch_order import ShuffleSpec, design_effect
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.store import Store
from epalm.errors import MissingFileError
from tests.repository import ROOT


def lines_of(file: Path) -> dict[str, dict[str, Any]]:
    """The lines of a result, by what they are about."""
    result = json.loads(file.read_text())
    assert result["commit"]
    assert result["machine"]["cpu"]
    return {line["what"]: line for line in result["lines"]}


def test_a_result_from_an_sdist_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timed_rounds.commit() != "none" or not (ROOT / ".git").exists()
    monkeypatch.setattr(timed_rounds, "__file__", str(tmp_path / "bench" / "support" / "a.py"))
    assert timed_rounds.commit() == "none"


def drifting(speed: float, called: Counter[int]) -> Variant:
    """A variant on a machine that is (number + 1) times slower in round `number`."""

    def run(number: int) -> Sample:
        called[number] += 1
        return Sample(100, (number + 1) / speed, 2 * (number + 1) / speed)

    return run


def test_ratios_within_a_round_do_not_depend_on_the_speed_of_the_machine() -> None:
    called: dict[str, Counter[int]] = {name: Counter() for name in ("reference", "half", "twice")}
    speeds = {"reference": 1.0, "half": 0.5, "twice": 2.0}
    variants = {name: drifting(speed, called[name]) for name, speed in speeds.items()}
    samples = interleave(variants, 5)
    targets = {"half": 0.6, "twice": 1.5}
    lines = compare(samples, reference="reference", unit="rows/s", targets=targets)
    assert all(rounds == Counter(range(5)) for rounds in called.values())
    actual = {line.what: line for line in lines}
    for name in ("half", "twice"):
        ratio, cpu_ratio = actual[name].ratio, actual[name].cpu_ratio
        assert ratio and cpu_ratio
        assert (ratio.low, ratio.median, ratio.high) == (speeds[name],) * 3
        assert cpu_ratio.median == speeds[name]
    assert [actual[name].met for name in speeds] == [None, False, True]
    assert actual["reference"].value == pytest.approx(100 / 3)


def test_the_table_marks_a_missed_target(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [at_most("memory", 11.0, "MB", limit=10), at_most("deff", 1.0, "fold", limit=1.2)]
    Result("a question", [*lines, Line("speed", 5.0, "rows/s")]).publish(None)
    shown = capsys.readouterr().out
    assert shown.count("MISSED") == 1
    assert shown.count("met") == 1
    assert "a question" in shown


def test_the_rows_of_a_scratch_store_contain_their_number(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", scratch_spec(5000, width=4, shard_rows=2048))
    rows = np.array([0, 1, 2047, 2048, 4999])
    tokens = open_reader(store, reader="ram").read([store.keys[row] for row in rows])
    assert row_numbers(tokens).tolist() == rows.tolist()


def test_gathering_is_measured_for_every_reader_and_format(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    gather.main(
        rows=700, width=16, batch_size=[64, 512], gathered=512, rounds=2, folder=tmp_path, json=file
    )
    lines = lines_of(file)
    for batch_size in (64, 512):
        for name in (*gather.TARGETS, "pread zarr", "pread hdf5", "zarr oindex", "h5py, sorted"):
            assert lines[f"{batch_size}: {name}"]["ratio"]["median"] > 0
    assert lines["512: ram"]["target"] == "ratio >= 0.9"
    assert lines["64: ram / zarr oindex"]["met"] is None
    assert lines["512: ram / zarr oindex"]["met"] is not None
    assert list(tmp_path.iterdir()) == [file]


def test_a_variant_that_gathers_the_wrong_rows_is_an_error() -> None:
    tokens = np.zeros((3, 6, 4), np.float16)
    tokens[:, 0, 1] = [5, 6, 7]
    gather.check(tokens, np.array([5, 6, 7]))
    with pytest.raises(RuntimeError, match="wrong rows"):
        gather.check(tokens, np.array([5, 7, 6]))


def test_a_shuffled_epoch_reads_each_row_once_and_is_compared_with_sequential_reading(
    tmp_path: Path,
) -> None:
    file = tmp_path / "result.json"
    block_shuffle.main(
        rows=4000,
        width=16,
        budget=200_000,
        batch_size=16,
        epochs=8,
        rounds=1,
        folder=tmp_path,
        json=file,
    )
    lines = lines_of(file)
    assert lines["streamed"]["ratio"]["median"] > 0
    opened = lines["beyond that: store opened"]["value"]
    assert 0 < opened < lines["beyond that: epoch streamed"]["value"]
    measured = next(line["value"] for name, line in lines.items() if name.startswith("deff meas"))
    assert measured == pytest.approx(lines["deff, closed form of these pools"]["value"], rel=0.1)
    assert list(tmp_path.iterdir()) == [file]


def test_rows_in_the_wrong_order_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "s.zarr", scratch_spec(640, width=4, shard_rows=256))
    streaming = block_shuffle.Streaming.open(str(tmp_path / "s.zarr"), 40_000, 16)
    assert streaming.serve(0, 16) == 640
    other = streaming.plan(1)
    monkeypatch.setattr(block_shuffle.Streaming, "plan", lambda *_: other)
    take = streaming.reader.stream
    backwards = block_shuffle.ReadPlan(other.rows[::-1].copy(), other.views, other.pool_ends[-1:])
    monkeypatch.setattr(streaming.reader.features, "_budget", 1 << 20)
    monkeypatch.setattr(streaming.reader, "stream", lambda _, size: take(backwards, size))
    with pytest.raises(RuntimeError, match="wrong rows"):
        streaming.serve(0, 16)


@pytest.mark.parametrize("pool_blocks", [64, 256])
def test_the_measured_variance_of_a_batch_equals_its_closed_form(pool_blocks: int) -> None:
    rows = np.arange(16 * 256 * 16)
    order = ShuffleSpec("blocks", pool_blocks)
    plans = (order.draw(rows, np.random.default_rng(seed)).examples for seed in range(6))
    batches = (part for places in plans for part in np.split(places, len(places) // 64))
    actual = block_shuffle.measured_effect(batches, count=len(rows), batch_size=64)
    # An epoch draws every block once, so that pools of 1/16 of the store vary a little less.
    finite = 1 - pool_blocks * 16 / len(rows)
    expected = 1 + (design_effect(64, pool_blocks) - 1) * finite
    assert actual == pytest.approx(expected, rel=0.05)
    random = np.random.default_rng(0)
    uniform = (random.permutation(rows)[:64] for _ in range(500))
    actual = block_shuffle.measured_effect(uniform, count=len(rows), batch_size=64)
    assert actual == pytest.approx(1, abs=0.05)


def test_sequential_reading_reads_every_byte_once(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.h5", scratch_spec(1000, width=8, shard_rows=256))
    size = sum(file.stat().st_size for file in block_shuffle.shard_paths(store))
    assert block_shuffle.read_sequentially(store) == size
    assert size > store.spec.nbytes


def test_writing_a_shard_is_timed_step_by_step_in_both_formats(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    shard_write.main(rows=64, width=16, rounds=2, folder=tmp_path, json=file)
    actual = [line["what"] for line in json.loads(file.read_text())["lines"]]
    steps = ["  cast and check values", "  CRC-32C", "  encode", "  write, fsync, rename"]
    assert actual == [shard_write.REFERENCE, "zarr", *steps, "hdf5", *steps]
    assert list(tmp_path.iterdir()) == [file]


def test_checking_media_files_is_compared_with_bare_stat_calls(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    media_check.main(files=20, passes=2, rounds=1, folder=tmp_path, json=file)
    lines = lines_of(file)
    assert list(lines) == [media_check.REFERENCE, "record", "compare"]
    assert lines["compare"]["ratio"]["median"] > 0
    assert list(tmp_path.iterdir()) == [file]


def test_an_extraction_is_compared_with_the_bare_encoder(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    extraction.main(
        encoder="timm:test_vit",
        number=3,
        batch_size=[2],
        workers=[0],
        rounds=1,
        folder=tmp_path,
        json=file,
    )
    lines = lines_of(file)
    assert list(lines) == ["batch 2, 1 threads: bare encoder", "batch 2, 1 threads, 0 workers"]
    assert lines["batch 2, 1 threads, 0 workers"]["ratio"]["median"] > 0
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_with_too_few_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="has 0"):
        extraction.main(photos=tmp_path, number=3, folder=tmp_path)


def test_an_extraction_with_the_constant_encoder_fills_its_store(tmp_path: Path) -> None:
    seen = extraction_memory.extract_many(str(tmp_path), 600)
    assert 0 < seen["listed"] <= seen["created"]
    tokens = open_reader(Store.open(tmp_path / "s.zarr"), reader="ram")
    assert (tokens.read([scratch_keys(600)[599]]) == 1).all()


def test_peak_memory_is_that_of_the_new_process_and_not_of_its_parent() -> None:
    held = bytearray(b"x") * 200_000_000
    small = peak_memory_of("operator:mul", "x", 3)
    large = peak_memory_of("operator:mul", "x", 20_000_000)
    assert len(held) > small.nbytes
    assert small.answer == "xxx"
    assert 19_000_000 < large.nbytes - small.nbytes < 60_000_000


@pytest.mark.slow
def test_the_memory_of_an_extraction_is_reported_for_each_number_of_samples(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    extraction_memory.main(number=[300, 600], folder=tmp_path, json=file)
    lines = lines_of(file)
    assert lines["imports alone"]["value"] < lines["600 samples: extracted"]["value"]
    assert "growth" in lines


def test_all_loss_implementations_are_timed_in_both_precisions(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    head_loss.main(rows=5, width=8, words=30, rounds=2, json=file)
    names = ("all logits", "chunked", "chunked, oneDNN layout")
    assert list(lines_of(file)) == [
        f"{precision} {name}" for precision in ("fp32", "bf16") for name in names
    ]
