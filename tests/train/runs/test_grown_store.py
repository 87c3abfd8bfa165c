"""A store that grows between runs: new runs take all of it, earlier ones their own part."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from epalm.cache.maintenance.grow import open_to_extract
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, Stopped, UnknownKeyError
from epalm.evaluate.cli import app as evaluate_app
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train import trainer
from epalm.train.cli import app
from tests.train.helpers import COLORS, World, logged, make_world, train_command

FIRST, NEW = 52, 30


class SetAfter:
    """An event that is set when it has been asked a number of times."""

    def __init__(self, count: int) -> None:
        self.left = count

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def command(world: World, *extra: str) -> str:
    result = CliRunner().invoke(app, train_command(world, *extra))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def add_samples(world: World) -> None:
    """Add examples of new samples to the dataset, between those that it has."""
    for split, numbers in (("train", range(FIRST, FIRST + 20)), ("val", range(FIRST + 20, 82))):
        file = world.data / f"{split}.jsonl"
        lines = file.read_text().splitlines()
        for number in numbers:
            line = {"id": f"q{number}", "media": f"{number}.png", "prompt": "what color"}
            lines.insert(number % 7, json.dumps(line | {"answers": [COLORS[number % 4]]}))
        file.write_text("\n".join(lines) + "\n")


def grow_store(world: World, *, finish: bool = True) -> Store:
    """Add features of the new samples to the store."""
    spec = Store.open(world.store).spec
    keys = [f"{number}.png" for number in range(FIRST + NEW)]
    store, _ = open_to_extract(world.store, replace(spec, count=len(keys)), keys)
    if finish:
        features = np.random.default_rng(1).normal(scale=0.1, size=store.spec.shape)
        for row in range(FIRST, FIRST + NEW):
            features[row, :, :, row % 4] += 2
        features = features.astype(np.float16)
        shorter = store.shorter_generation(0)
        assert shorter
        features[:FIRST] = shorter.load_shard(0)
        store.write_shard(0, features, shorter.commit_record(0).errors)
        store.finish()
    return store


def evaluate(world: World) -> dict[str, object]:
    words = ["--runs", world.root / "runs", "--run", "run", "--split", "val", "--device", "cpu"]
    result = CliRunner().invoke(evaluate_app, [*map(str, words), "--quiet"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    folder = world.root / "runs/run/eval/val"
    return {name: (folder / name).read_bytes() for name in ("predictions.jsonl",)} | {
        "scores": json.loads((folder / "scores.json").read_text())["scores"]
    }


def test_a_new_run_is_trained_on_all_rows(world: World) -> None:
    command(world)
    add_samples(world)
    grow_store(world)
    command(world, "--name", "new")
    record = RunRecord.load(world.root / "runs/new")
    assert record.store["count"] == str(FIRST + NEW)
    steps = [lines[-1]["step"] for lines in (logged(world, "train", "new"), logged(world, "train"))]
    assert steps == [2 * 15, 2 * 10]  # 59 and 39 encoded examples in batches of 4


def test_an_old_run_has_the_same_scores_on_the_grown_store(world: World) -> None:
    command(world)
    before = evaluate(world)
    record = (world.root / "runs/run/run.json").read_bytes()
    grow_store(world)
    assert evaluate(world) == before
    assert (world.root / "runs/run/run.json").read_bytes() == record


@pytest.mark.parametrize("reader", ["auto", "stream"])
def test_a_stopped_run_resumes_on_its_own_part_of_the_grown_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr(trainer, "LOG_STEPS", 4)  # a signal is noticed after this number of steps
    world = make_world(tmp_path, epochs=4)
    command(world, "--name", "undisturbed", "--reader", reader)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "stop_signal", lambda: nullcontext(SetAfter(4)))
        with pytest.raises(Stopped):
            command(world, "--reader", reader)
    assert logged(world, "train")[-1]["step"] == 18  # within the second epoch of 10 steps
    add_samples(world)
    grow_store(world)
    output = " ".join(command(world, "--reader", reader).split())
    assert "was started with the first 52 of the 82 samples" in output
    assert "20 of 60 examples left out, their samples were added after the run had" in output
    for kind in ("train", "val"):
        assert logged(world, kind) == logged(world, kind, "undisturbed")
    runs = [tmp_path / "runs" / name for name in ("run", "undisturbed")]
    adapters = [(run / "adapter.safetensors").read_bytes() for run in runs]
    assert adapters[0] == adapters[1]
    records = [json.loads((run / "run.json").read_text()) | {"name": ""} for run in runs]
    assert records[0] == records[1]


def test_a_finished_run_is_not_trained_on_the_new_rows(world: World) -> None:
    command(world)
    add_samples(world)
    grow_store(world)
    assert "is finished already" in " ".join(command(world).split())
    assert RunRecord.load(world.root / "runs/run").store["count"] == str(FIRST)


def test_a_store_that_grows_is_trained_on_as_before(world: World) -> None:
    command(world)
    grow_store(world, finish=False)
    command(world, "--name", "meanwhile")
    assert logged(world, "train", "meanwhile") == logged(world, "train")
    add_samples(world)
    with pytest.raises(UnknownKeyError, match="20 of which are being added"):
        command(world, "--name", "other")
    command(world)  # the finished run


def test_a_store_that_never_had_the_rows_of_a_run_is_refused(world: World) -> None:
    command(world)
    grow_store(world)
    file = world.root / "runs/run/run.json"
    file.write_text(file.read_text().replace(f'"count": "{FIRST}"', '"count": "51"'))
    with pytest.raises(CacheMismatchError, match="count is 82, in training 51"):
        command(world)
