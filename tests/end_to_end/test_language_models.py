"""Any family of language models through all commands: dry run, training, resume, evaluation."""

import json
from pathlib import Path

import pytest
import typer
from transformers import AutoConfig
from typer.testing import CliRunner

from epalm.errors import EpalmError, ModelError
from epalm.evaluate.cli import app as evaluate_app
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train.cli import app as train_app
from tests.end_to_end.tiny_language_models import FAMILIES, save_tiny
from tests.train.helpers import World, logged, make_world, train_command

NO_DROPOUT = ("--set", "lm_dropout=0")
CONNECTORS = ("--variant", "6-connectors", "--set", "inject=auto", *NO_DROPOUT)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def call(app: typer.Typer, *arguments: object) -> str:
    """The output of a command that succeeds, or leaves out the sample that is not encoded."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 3), result.output
    return result.output


def train(world: World, lm: Path, *extra: object) -> str:
    return call(train_app, *train_command(world, "--lm", str(lm), *map(str, extra)))


def evaluate(world: World, *extra: object) -> list[dict[str, object]]:
    """The predictions of an evaluation of the run, which is the newest one."""
    run = world.root / "runs" / "run"
    before = set((run / "eval").glob("*")) if (run / "eval").exists() else set()
    call(evaluate_app, "--split", "val", "--run", run, "--device", "cpu", *extra)
    (folder,) = set((run / "eval").glob("*")) - before
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def exact_match(predictions: list[dict[str, object]]) -> float:
    right = [line["prediction"] in line["references"] for line in predictions]  # type: ignore[operator]
    return sum(right) / len(right)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_model_of_any_family_goes_through_all_commands(
    world: World, tmp_path: Path, family: str
) -> None:
    lm = save_tiny(tmp_path / family, family)
    options = ("--set", "inject=auto", "--set", "max_new_tokens=6", *NO_DROPOUT)
    assert "fits" in train(world, lm, *options, "--dry-run")
    train(world, lm, *options)
    losses = [line["loss"] for line in logged(world, "train")]
    assert losses[-1] < losses[0]
    validated = max(line["exact_match"] for line in logged(world, "val"))
    predictions = evaluate(world)
    assert exact_match(predictions) == pytest.approx(validated)
    assert len(evaluate(world, "--beams", 3)) == len(predictions)
    answers = tmp_path / "answers.txt"
    answers.write_text("red\nblue\ngreen\nwhite\n")
    ranked = evaluate(world, "--answers", answers)
    assert {line["prediction"] for line in ranked} <= {"red", "blue", "green", "white"}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_dry_run_needs_no_weights(world: World, tmp_path: Path, family: str) -> None:
    lm = save_tiny(tmp_path / family, family, weights=False)
    assert "fits" in train(world, lm, *NO_DROPOUT, "--dry-run")


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_cached_text_states_give_the_same_losses(world: World, tmp_path: Path, family: str) -> None:
    lm = save_tiny(tmp_path / family, family)
    train(world, lm, *CONNECTORS)
    computed = [line["loss"] for line in logged(world, "train")]
    train(world, lm, *CONNECTORS, "--fresh", "--text-states", tmp_path / "states")
    cached = [line["loss"] for line in logged(world, "train")]
    assert cached == pytest.approx(computed, abs=2e-4)


def test_an_interrupted_run_resumes_with_the_same_losses(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = save_tiny(tmp_path / "qwen3", "qwen3")
    train(world, lm, *CONNECTORS)
    whole = logged(world, "train")
    with monkeypatch.context() as patch:
        patch.setattr("epalm.train.trainer.validate_epoch", _interrupt)
        with pytest.raises(InterruptedError):
            train(world, lm, *CONNECTORS, "--fresh")
    train(world, lm, *CONNECTORS)
    assert logged(world, "train") == whole


def _interrupt(training: object, epoch: int) -> None:
    raise InterruptedError


def test_a_run_in_the_chat_template_is_recorded_resumed_and_evaluated(
    world: World, tmp_path: Path
) -> None:
    lm = save_tiny(tmp_path / "chat", "gemma3_text")
    options = ("--set", "chat=true", "--set", "begin_token=<|endoftext|>", *CONNECTORS)
    train(world, lm, *options)
    record = RunRecord.load(world.root / "runs" / "run").model
    assert (record.chat, record.begin_token) == (True, "<|endoftext|>")
    assert "is finished already" in train(world, lm, *options)
    with pytest.raises(EpalmError, match=r"other settings \(model, chat in recipe.toml differ"):
        train(world, lm, *options, "--set", "chat=false")
    assert len(evaluate(world)) == 12


def test_a_separator_without_a_spare_embedding_is_recorded_as_a_line_break(
    world: World, tmp_path: Path
) -> None:
    template = ("--set", "qa_template={prompt}?</a>{answer}")
    train(world, save_tiny(tmp_path / "qwen3", "qwen3"), *CONNECTORS, *template)
    folder = world.root / "runs" / "run"
    assert RunRecord.load(folder).model.template == "{prompt}?\n{answer}"
    train(world, save_tiny(tmp_path / "gpt2", "gpt2"), *CONNECTORS, *template, "--fresh")
    assert RunRecord.load(folder).model.template == "{prompt}?</a>{answer}"
    assert len(evaluate(world)) == 12


def test_dropout_is_refused_for_a_family_without_it(world: World, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no dropout: use lm_dropout 0"):
        train(world, save_tiny(tmp_path / "llama", "llama"), "--dry-run")


@pytest.mark.parametrize(
    "family", ["bert", "bloom", "falcon", "gemma3", "gptj", "mamba", "mixtral", "t5"]
)
def test_an_unsupported_model_is_refused_with_what_to_use(
    world: World, tmp_path: Path, family: str
) -> None:
    lm = save_tiny(tmp_path / "llama", "llama", weights=False)
    AutoConfig.for_model(family).save_pretrained(lm)
    with pytest.raises(ModelError, match="use a language model of one of the families"):
        train(world, lm, *NO_DROPOUT, "--dry-run")
