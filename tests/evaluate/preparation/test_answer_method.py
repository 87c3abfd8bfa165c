"""Evaluation with other decoding settings than the run's, and with closed lists of answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.errors import UnknownSplitError, UsageError
from epalm.evaluate.preparation.answer_method import (
    AnswerMethod,
    answer_method,
    describe,
)
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.run_evaluation import evaluate
from epalm.evaluate.scores.eval_results import SCORES_FILE, Evaluation
from epalm.model.method.model_settings import Decoding
from epalm.tasks.types import Example, Task
from tests.evaluate.helpers import TinyRun, answered, make_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return make_run(tmp_path_factory.mktemp("protocol"))


def some_task(*examples: Example) -> Task:
    return Task(
        "t", "qa", "exact", ("train", "val"), lambda split, _: [*examples][: split == "train" and 9]
    )


def method(
    own: Decoding, task: Task | None = None, *, training_split: str = "train", **changes: object
) -> AnswerMethod:
    options = EvalOptions(**changes)  # type: ignore[arg-type]
    task = task or some_task()
    return answer_method(options, own, task, root=Path(), training_split=training_split)


@pytest.mark.parametrize(
    ("own", "changes", "expected", "suffix"),
    [
        (Decoding(5, 3), {}, Decoding(5, 3), ""),
        (Decoding(5, 3), {"num_beams": 3}, Decoding(5, 3), ""),
        (Decoding(5, 3), {"num_beams": 1, "max_new_tokens": 9}, Decoding(9), "-beams1-new9"),
        (Decoding(5, 3), {"do_sample": True}, Decoding(5, do_sample=True), "-sample-beams1"),
        (
            Decoding(5),
            {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "seed": 2},
            Decoding(5, do_sample=True, temperature=0.7, top_p=0.9, seed=2),
            "-sample-t0.7-p0.9-seed2",
        ),
        (
            Decoding(5, do_sample=True, temperature=0.7),
            {"do_sample": False},
            Decoding(5),
            "-greedy-t1",
        ),
    ],
)
def test_options_change_the_runs_decoding_and_the_folder_names_what_differs(
    own: Decoding, changes: dict[str, object], expected: Decoding, suffix: str
) -> None:
    changed = method(own, **changes)
    assert (changed.decoding, changed.suffix, changed.answers) == (expected, suffix, ())
    assert changed.description == describe(expected)


def test_a_decoding_is_described_in_words() -> None:
    assert describe(Decoding(5)) == "greedy, at most 5 new tokens"
    assert describe(Decoding(5, 3)) == "3 beams, at most 5 new tokens"
    sampling = Decoding(5, do_sample=True, temperature=0.5, seed=4)
    words = "sampling (temperature 0.5, top-p 1, seed 4), at most 5 new tokens"
    assert describe(sampling) == words


def test_lists_have_folders_of_their_own_by_their_contents(tmp_path: Path) -> None:
    suffixes = set()
    for folder, text in (("a", "red\n"), ("b", "blue\n")):
        file = tmp_path / folder / "colors.txt"
        file.parent.mkdir()
        file.write_text(text)
        suffixes.add(method(Decoding(), answers=str(file)).suffix)
    assert len(suffixes) == 2
    assert all(suffix.startswith("-answers-colors-") for suffix in suffixes)
    task = some_task(answered("red"), answered("two"))
    top = method(Decoding(), task, answers="top-1")
    assert (top.answers, top.suffix) == (("red",), "-top1")


def test_the_most_frequent_answers_of_a_missing_split_are_refused() -> None:
    with pytest.raises(
        UnknownSplitError, match=r"top-5 needs the answers of t extra, .*: give a text file"
    ):
        method(Decoding(), training_split="extra", answers="top-5")


def test_different_seeds_have_different_folders() -> None:
    suffixes = [method(Decoding(), do_sample=True, seed=10**7 + row).suffix for row in range(2)]
    assert suffixes == ["-sample-seed10000000", "-sample-seed10000001"]


def test_a_closed_list_excludes_settings_of_generation() -> None:
    with pytest.raises(UsageError, match="ranks the answers of a list"):
        method(Decoding(), answers="top-3", num_beams=3)


def test_an_evaluation_with_other_beams_is_labeled_and_keeps_the_runs_own(tiny: TinyRun) -> None:
    own = evaluate(EvalOptions(run=str(tiny.folder), split="val", quiet=True))
    other = evaluate(
        EvalOptions(
            run=str(tiny.folder),
            split="val",
            quiet=True,
            num_beams=2,
            max_new_tokens=2,
        )
    )
    assert (own.folder.name, other.folder.name) == ("val", "val-beams2-new2")
    for finished, words in (
        (own, "greedy, at most 3 new tokens"),
        (other, "2 beams, at most 2 new tokens"),
    ):
        scores = json.loads((finished.folder / SCORES_FILE).read_text())
        assert scores["settings"]["decoding"] == words
    longest = max(len(one.prediction.split()) for one in other.evaluation.predictions)
    assert longest <= 2 < max(len(one.prediction.split()) for one in own.evaluation.predictions)


def texts(evaluation: Evaluation) -> list[str]:
    return [one.prediction for one in evaluation.predictions]


def test_a_sampled_evaluation_is_the_same_again_and_in_other_batches(tiny: TinyRun) -> None:
    options = EvalOptions(run=str(tiny.folder), split="val", quiet=True, do_sample=True, seed=1)
    first, again = (evaluate(replace(options, batch_size=size)) for size in (64, 2))
    assert texts(first.evaluation) == texts(again.evaluation)
    other = evaluate(replace(options, seed=2))
    assert texts(other.evaluation) != texts(first.evaluation)
    assert (first.folder.name, other.folder.name) == ("val-sample-seed1", "val-sample-seed2")


def test_a_closed_list_gives_its_answers_only(tiny: TinyRun, tmp_path: Path) -> None:
    file = tmp_path / "answers.txt"
    file.write_text("lamp\nred cup\ntwo\n")
    finished = evaluate(
        EvalOptions(run=str(tiny.folder), split="val", quiet=True, answers=str(file))
    )
    answered = finished.evaluation.predictions
    assert {one.prediction for one in answered} <= {"lamp", "red cup", "two"}
    assert len(answered) == 5
    assert "3 answers of answers.txt" in finished.evaluation.settings["decoding"]
    top = evaluate(EvalOptions(run=str(tiny.folder), split="val", quiet=True, answers="top-1000"))
    assert {one.prediction for one in top.evaluation.predictions} == {"lamp"}
    assert top.evaluation.headline == "exact_match"
    assert top.folder.name == "val-top1000"
