"""Validation loss and image gain: hand-worked figures, and a plain computation without batches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from epalm.errors import TrainingError, UsageError
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.checkpoints.validation_figures import quality
from epalm.train.cli import app
from epalm.train.validation.image_gain import ImageGain, likeliest_answer, summarize
from tests.evaluate.helpers import answered
from tests.train.helpers import COLORS, TRAIN, VAL, World, logged, make_world, train_command


def run(world: World, *extra: str) -> str:
    result = CliRunner().invoke(app, train_command(world, *extra), catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_gain_is_per_token_and_its_interval_resamples_samples() -> None:
    # Sample a: two questions of two tokens each; sample b: one of one token that gains nothing.
    totals = np.array([[2.0, 3.0, 2.0], [4.0, 7.0, 2.0], [1.0, 1.0, 1.0]])
    figures = summarize(totals, ["a", "a", "b"])
    assert figures["loss"] == pytest.approx(7 / 5)
    assert figures["image_gain"] == pytest.approx(4 / 5)
    # Resamples of two samples: a a has (20 - 12) / 8 = 1, b b has 0, each with probability 1/4.
    assert (figures["image_gain_low"], figures["image_gain_high"]) == (0, 1)


def test_equal_gains_of_all_samples_have_no_interval_and_a_blind_run_has_no_gain() -> None:
    totals = np.array([[1.0, 1.5, 1.0], [2.0, 2.5, 1.0]])
    assert summarize(totals, ["a", "b"]) == {"loss": 1.5, "image_gain": 0.5}
    assert summarize(totals, ["a", "b"], blind=True) == {"loss": 1.5}


def test_the_likeliest_answer_is_the_first_of_the_largest_weight() -> None:
    assert likeliest_answer(answered("a", "b")) == "a"
    assert likeliest_answer(answered("a", "b", "c", weights=(0.3, 0.6, 0.6))) == "b"
    assert likeliest_answer(answered("a", weights=(0.0,))) is None
    assert likeliest_answer(answered()) is None


def group_questions(world: World) -> None:
    """Validation questions about few samples, some with two questions and longer answers."""
    lines = []
    for number in range(VAL):
        sample = TRAIN + number * 2 // 3
        words = " ".join([COLORS[sample % 4]] * (1 + number % 3))
        line = {"id": f"q{number}", "media": f"{sample}.png", "prompt": "what color"}
        lines.append(line | {"answers": [words]})
    (world.data / "val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def plain_losses(world: World, folder: Path) -> dict[str, float]:
    """Loss and gain of a run's weights, one text at a time, with PyTorch's cross-entropy."""
    loaded = load_run(folder, device="cpu")
    model, text = loaded.model.eval(), loaded.text
    stored = zarr.open_array(f"{world.store}/cls", mode="r")[:, 0].astype(np.float32)
    lines = list(map(json.loads, (world.data / "val.jsonl").read_text().splitlines()))
    keys = sorted({line["media"] for line in lines})
    cycle = [keys[place] for place in np.random.default_rng(0).permutation(len(keys))]
    other = {key: cycle[(place + 1) % len(cycle)] for place, key in enumerate(cycle)}
    sums = np.zeros(3)
    for line in lines:
        prompt = text.prompt_ids([line["prompt"]])[0]
        answer = text.answer_ids(line["answers"])[0]
        ids = torch.tensor([[*prompt, *answer]])
        for column, key in enumerate((line["media"], other[line["media"]])):
            features = torch.from_numpy(stored[int(key.removesuffix(".png"))])[None]
            with torch.no_grad():
                states = model.last_hidden_states(features, ids, torch.ones_like(ids))
                logits = model.logits(states)[len(prompt) - 1 : -1]
            sums[column] += float(cross_entropy(logits, torch.tensor(answer), reduction="sum"))
        sums[2] += len(answer)
    return {"loss": sums[0] / sums[2], "image_gain": (sums[1] - sums[0]) / sums[2]}


def test_figures_equal_a_plain_computation_and_follow_the_scores(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=3)
    group_questions(world)
    changes = ("lr=0.1", "batch_size=5", "lm_dropout=0.0")
    output = run(world, *(part for change in changes for part in ("--set", change)))
    lines = logged(world, "val")
    assert list(lines[0])[:3] == ["step", "epoch", "exact_match"]
    assert list(lines[0])[-4:] == ["loss", "image_gain", "image_gain_low", "image_gain_high"]
    best = max(lines, key=lambda line: line["exact_match"])
    plain = plain_losses(world, world.root / "runs" / "run")
    assert best["loss"] == pytest.approx(plain["loss"], abs=1e-5)
    assert best["image_gain"] == pytest.approx(plain["image_gain"], abs=1e-5)
    assert best["image_gain_low"] < best["image_gain"] < best["image_gain_high"]
    assert best["image_gain"] > 0.1  # the color is in the features alone
    message = f"loss {best['loss']:.4f}, image gain {best['image_gain']:.4f} ("
    assert message in " ".join(output.split())


def test_a_blind_run_has_a_loss_but_no_gain_and_cannot_be_selected_by_it(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=1)
    run(world, "--blind")
    (line,) = logged(world, "val")
    assert line["loss"] > 0
    assert not any(name.startswith("image_gain") for name in line)
    with pytest.raises(
        UsageError, match=r"best_by is image_gain, but in a blind run every.*best_by=score"
    ):
        run(world, "--blind", "--set", "best_by=image_gain", "--name", "other")
    assert not (world.root / "runs" / "other").exists()


def test_a_single_sample_or_a_batch_of_one_question(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=1)
    run(world, "--set", "batch_size=1", "--name", "one")
    run(world, "--set", "batch_size=1", "--name", "same", "--set", "loss_examples=0")
    assert logged(world, "val", "one") == logged(world, "val", "same")
    assert "image_gain" in logged(world, "val", "one")[0]
    lines = (world.data / "val.jsonl").read_text().splitlines()
    (world.data / "val.jsonl").write_text(lines[0] + "\n")
    run(world, "--name", "single")
    assert "image_gain" not in logged(world, "val", "single")[0]
    assert "loss" in logged(world, "val", "single")[0]


def test_only_some_examples_are_used_and_answers_that_do_not_fit_are_left_out(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path, epochs=1)
    lines = list(map(json.loads, (world.data / "val.jsonl").read_text().splitlines()))
    lines[3]["answers"] = [" ".join(["red"] * 40)]  # the language model has 32 positions
    (world.data / "val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = run(world, "--name", "all")
    assert "1 of 12 validation examples are left out of the validation loss" in output
    run(world, "--name", "few", "--set", "loss_examples=2")
    assert logged(world, "val", "all")[0]["loss"] != logged(world, "val", "few")[0]["loss"]


@pytest.mark.parametrize("figure", ["loss", "image_gain"])
def test_the_figure_selects_the_best_epoch(tmp_path: Path, figure: str) -> None:
    world = make_world(tmp_path, epochs=5)
    changes = ["--set", f"best_by={figure}", "--set", "lr=0.5", "--set", "lm_dropout=0.0"]
    output = run(world, *changes, "--json", "--quiet")
    lines = logged(world, "val")
    assert next(name for name in lines[0] if name not in ("step", "epoch")) == figure
    best = max(lines, key=lambda line: quality(figure, line[figure]))
    summary = json.loads(output.splitlines()[-1])
    assert summary["best"]["epoch"] == best["epoch"]
    assert summary["best"]["nats_per_token"][figure] == best[figure]
    assert summary["best"]["scores"]["exact_match"] == best["exact_match"]
    assert not {"loss", "image_gain"} & set(summary["best"]["scores"])
    plain = plain_losses(world, world.root / "runs" / "run")
    assert plain[figure] == pytest.approx(best[figure], abs=1e-5)
    card = (world.root / "runs" / "run" / "README.md").read_text()
    assert f"{best[figure]:.4f} nats per token" in card


def test_a_loss_that_is_not_finite_is_not_logged_and_selects_no_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, epochs=1)
    broken = np.full((VAL, 3), np.inf)
    monkeypatch.setattr(ImageGain, "_totals", lambda _, indices: broken[: len(indices)])
    assert "the validation loss is not finite" in run(world)
    assert not {"loss", "image_gain"} & logged(world, "val")[0].keys()
    with pytest.raises(TrainingError, match="the validation score loss is nan"):
        run(world, "--set", "best_by=loss", "--name", "other")


def test_a_lower_loss_is_better_and_a_higher_gain() -> None:
    assert quality("loss", 1.0) > quality("loss", 2.0)
    assert quality("image_gain", 2.0) > quality("image_gain", 1.0)
