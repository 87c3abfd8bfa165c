"""Warnings about contradicting scores and about answers with little variety."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.evaluate.cli import app
from epalm.evaluate.scores.eval_results import Score, write_evaluation
from epalm.evaluate.scores.result_warnings import warnings_of
from tests.evaluate.helpers import evaluation, make_run
from tests.evaluate.test_report_cli import RUNNER


def test_scores_that_agree_up_to_rounding_give_no_warning() -> None:
    result = evaluation(answers=6)
    assert warnings_of(replace(result, scores={"exact_match": Score(0.50004)})) == []


def test_corpus_scores_are_not_compared_with_the_mean_over_examples() -> None:
    result = evaluation(answers=6)
    answered = tuple(
        replace(one, scores={"BLEU-4": 0.0, "METEOR": 0.5}) for one in result.predictions
    )
    scores = {"BLEU-4": Score(0.3), "METEOR": Score(0.2)}
    assert (
        warnings_of(replace(result, predictions=answered, scores=scores, headline="METEOR")) == []
    )


def test_equal_answers_to_all_questions_give_a_warning_except_for_a_blind_control() -> None:
    result = evaluation(answers=60)
    assert warnings_of(result) == [
        'only 1 of 60 answers are distinct, and 100 % are "lamp": the model may ignore its input'
    ]
    assert warnings_of(replace(result, blind=True)) == []


@pytest.mark.parametrize("command", ["report", "compare"])
def test_edited_scores_give_a_warning_in_the_terminal_and_the_report(
    tmp_path: Path, command: str
) -> None:
    run = make_run(tmp_path)
    folder = run.folder / "eval" / "val"
    write_evaluation(folder, evaluation("tiny"))
    summary = json.loads((folder / "scores.json").read_text())
    summary["scores"]["exact_match"]["value"] = 0.75
    (folder / "scores.json").write_text(json.dumps(summary))
    page = folder / "report.html" if command == "report" else tmp_path / "page.html"
    out = [] if command == "report" else ["--out", str(page)]
    done = RUNNER.invoke(app, [command, str(run.folder), *out], catch_exceptions=False)
    assert done.exit_code == 0
    words = (
        "gives exact_match as 75.00, the scores of the examples in predictions.jsonl have a mean"
    )
    assert words in done.stderr.replace("\n", " ")
    assert words in page.read_text(encoding="utf-8")
