"""The benchmark of published variants: what is run, and the table made of it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench import variants
from bench.support.scratch_stores import scratch_spec
from epalm.tasks.task_registry import load_task
from tests.train.helpers import make_world


def test_a_variant_and_its_blind_control_are_trained_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, out = make_world(tmp_path), tmp_path / "runs.jsonl"
    for _ in range(2):
        variants.main(
            features=[str(world.store)],
            out=out,
            recipe=str(world.recipe),
            variants=["full"],
            seeds=1,
            steps=4,
            asked=8,
        )
        shown = capsys.readouterr().out
    seeing, blind = variants.FinishedRun.read(out)
    assert (seeing.blind, blind.blind, seeing.metric) == (False, True, "exact_match")
    assert seeing.loss != blind.loss
    assert f"| full | {seeing.trained:,} | " in shown
    assert f"| {100 * seeing.score:.1f} | {100 * blind.score:.1f} | " in shown
    assert sorted(file.suffix for file in tmp_path.iterdir() if file.is_file()) == [
        ".jsonl",
        ".toml",
    ]


def test_runs_of_the_first_seed_and_their_controls_come_first() -> None:
    stores = {name: scratch_spec(64) for name in ("a", "b")}
    made = [
        (job.features, job.variant, job.seed, job.blind)
        for job in variants.all_jobs(stores, ["lin", "full"], 2)
    ]
    first = [(store, name) for name in ("lin", "full") for store in ("a", "b")]
    assert made == [
        *((*pair, 0, False) for pair in first),
        *((*pair, 0, True) for pair in first),
        *((*pair, 1, False) for pair in first),
        ("a", "full", 1, True),
        ("b", "full", 1, True),
    ]


def test_only_variants_that_read_all_tokens_get_stores_of_all_tokens() -> None:
    stores = {"cls": scratch_spec(64), "all": replace(scratch_spec(64), positions=5)}
    made = variants.all_jobs(stores, ["magma", "magma-all-tokens"], 1)
    actual = [(job.features, job.variant) for job in made if not job.blind]
    assert actual == [("cls", "magma"), ("all", "magma-all-tokens")]


def test_the_table_has_mean_deviation_control_and_difference() -> None:
    def line(score: float, *, blind: bool) -> variants.FinishedRun:
        alike = variants.SharedSettings("small", (), 1, 1)
        return variants.FinishedRun(
            dataset="d",
            variant="lin",
            seed=0,
            blind=blind,
            metric="m",
            score=score,
            trained=1000,
            frozen=9000,
            loss=1.0,
            lr=1.0,
            seconds=1.0,
            alike=alike,
            commit="c",
        )

    lines = [line(0.1, blind=False), line(0.3, blind=False), line(0.05, blind=True)]
    head, row = variants.table(lines)
    assert head == ["variant", "trained", "%", "d, m", "blind", "difference"]
    assert row == ["lin", "1,000", "10.00", "20.0 ± 14.1", "5.0", "+15.0"]


def test_training_examples_depend_on_the_seed_and_validation_examples_do_not(
    tmp_path: Path,
) -> None:
    data = make_world(tmp_path).data
    task = load_task("manifest", data)
    drawn = [variants.sampled(task, train=100, val=6, seed=seed) for seed in (0, 1)]
    trained = [[one.question_id for one in each.examples("train", data)] for each in drawn]
    asked = [[one.question_id for one in each.examples("val", data)] for each in drawn]
    assert trained[0] != trained[1]
    assert {*Counter(trained[0]).values()} == {2, 3}
    assert asked[0] == asked[1]
    assert len(asked[0]) == 6
