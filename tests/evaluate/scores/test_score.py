"""`epalm-eval score`: predictions of any model, scored from files."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epalm.evaluate.scores.eval_results import Score, write_evaluation
from epalm.evaluate.scores.scoring import corpus_scores, read_predictions, read_references
from epalm.metrics.intervals import bootstrap_interval
from epalm.metrics.metric_registry import METRICS, load_metric
from tests.evaluate.helpers import call, evaluation

PEOPLE = ["yes"] * 10
SAID = [
    {"id": "q1", "prediction": "Yes.", "key": "a.jpg"},
    {"id": 2, "prediction": "two"},
    {"id": "q3", "prediction": " red "},
]
RIGHT = [
    {"id": "q1", "answers": PEOPLE, "answer_type": "yes/no", "question_type": "is the"},
    {"id": 2, "answers": ["2"] * 4 + ["Two"] * 6, "answer_type": "number"},
    {"id": "q3", "answers": ["red", "blue"] * 5, "answer_type": "other", "media": "a.jpg"},
]


def lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    return lines(tmp_path / "predictions.jsonl", SAID), lines(tmp_path / "right.jsonl", RIGHT)


def test_vqa_is_scored_by_the_official_rule_and_by_type_of_answer(
    files: tuple[Path, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    predictions, right = files
    out = tmp_path / "each.jsonl"
    arguments = (
        "score",
        predictions,
        "--references",
        right,
        "--metrics",
        "vqa",
        "--json",
        "--out",
        out,
    )
    assert call(monkeypatch, *arguments) == 0
    result = json.loads(capfd.readouterr().out)
    # ten people said "yes", so "Yes." is wrong by the official rule; the other two are right
    assert result["count"] == 3
    assert result["scores"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert result["scores"]["normalised_accuracy"]["value"] == 1.0
    assert result["scores"]["exact_match"]["value"] == pytest.approx(1 / 3)
    low, high = bootstrap_interval(load_column(predictions, right))
    assert (result["scores"]["accuracy"]["low"], result["scores"]["accuracy"]["high"]) == (
        low,
        high,
    )
    assert {one["name"]: one["mean"] for one in result["breakdowns"]["answer type"]} == {
        "yes/no": 0.0,
        "number": 1.0,
        "other": 1.0,
    }
    assert [one["name"] for one in result["breakdowns"]["question type"]] == ["is the"]
    each = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [one["id"] for one in each] == ["q1", "2", "q3"]
    assert [one["scores"]["accuracy"] for one in each] == [0.0, 1.0, 1.0]


def load_column(predictions: Path, right: Path) -> Any:  # noqa: ANN401 - an array
    scores = load_metric("vqa")(read_predictions(predictions), read_references(right))
    return scores.per_example["accuracy"]


def test_every_accuracy_of_the_official_evaluator_is_reproduced_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    golden = Path(__file__).parents[2] / "metrics" / "data" / "vqa_scoring.json"
    pairs = json.loads(golden.read_text(encoding="utf-8"))
    predictions = [{"id": row, "prediction": pair["prediction"]} for row, pair in enumerate(pairs)]
    right = [{"id": row, "answers": pair["answers"]} for row, pair in enumerate(pairs)]
    one, other = (
        lines(tmp_path / "predictions.jsonl", predictions),
        lines(tmp_path / "right.jsonl", right),
    )
    out = tmp_path / "each.jsonl"
    arguments = ("score", one, "--references", other, "--metrics", "vqa", "--out", out)
    assert call(monkeypatch, *arguments) == 0
    assert "49.90" in capfd.readouterr().out
    each = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [one["scores"]["accuracy"] for one in each] == pytest.approx(
        [pair["accuracy"] for pair in pairs], abs=1e-9
    )


def test_a_run_can_be_scored_again_from_its_predictions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = evaluation()
    write_evaluation(tmp_path, made)
    file = tmp_path / "predictions.jsonl"
    arguments = ("score", file, "--references", file, "--metrics", "exact", "--json")
    assert call(monkeypatch, *arguments) == 0
    # each of the six says "lamp", which two of its three references are
    assert json.loads(capfd.readouterr().out)["scores"]["exact_match"]["value"] == 1.0


def test_the_table_has_scores_times_100_and_groups(
    files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "score", files[0], "--references", files[1], "--metrics", "vqa") == 0
    out = capfd.readouterr().out
    assert "66.67" in out
    assert "accuracy by answer type" in out
    assert "yes/no" in out


def test_gqa_looks_up_a_normalized_answer_in_its_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    predictions = lines(tmp_path / "predictions.jsonl", [{"id": "1", "prediction": "The dog"}])
    right = lines(tmp_path / "right.jsonl", [{"id": "1", "label": {"dog": 0.6, "cat": 1}}])
    assert (
        call(monkeypatch, "score", predictions, "--references", right, "--metrics", "gqa", "--json")
        == 0
    )
    scores = json.loads(capfd.readouterr().out)["scores"]
    assert (scores["accuracy"]["value"], scores["exact_match"]["value"]) == (0.6, 0.0)


def test_captions_without_java_list_the_skipped_scores_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = {"a": "a dog runs", "b": "two birds on a wire"}
    predictions = lines(
        tmp_path / "s.jsonl", [{"id": k, "prediction": v} for k, v in texts.items()]
    )
    right = lines(tmp_path / "r.jsonl", [{"id": k, "answers": [v]} for k, v in texts.items()])
    monkeypatch.setenv("PATH", "")
    arguments = ("score", predictions, "--references", right, "--metrics", "caption", "--json")
    assert call(monkeypatch, *arguments) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    # every n-gram is right, but three words have none of four
    assert result["scores"]["CIDEr"]["value"] == pytest.approx(10 * (1 + 0.75) / 2)
    assert result["scores"]["BLEU-4"]["low"] is not None
    assert set(result["left_out"]) == {"METEOR", "SPICE"}
    assert "METEOR is left out: there is no `java`" in " ".join(err.split())


@pytest.mark.parametrize(
    ("predictions", "right", "code", "message"),
    [
        (SAID[:2], RIGHT, 1, "question q3 has no prediction"),
        (SAID, RIGHT[1:], 1, "question q1 has a prediction but is not in the split"),
        ([*SAID, SAID[1]], RIGHT, 1, "question 2 has more than one prediction"),
        (SAID, [*RIGHT, RIGHT[0]], 1, 'line 4.id is "q1", expected an id that occurs once'),
        (
            [{"id": "q1"}],
            RIGHT,
            1,
            "predictions.jsonl: line 1.prediction is missing, expected a string",
        ),
        (
            [{"id": "q1", "prediction": None}],
            RIGHT,
            1,
            "line 1.prediction is null, expected a string",
        ),
        ([{"id": "q1", "prediction": 3}], RIGHT, 1, "line 1.prediction is 3, expected a string"),
        (
            SAID,
            [{"id": "q1", "answers": []}],
            1,
            "line 1.answers is [], expected a list of strings",
        ),
        (SAID, [{"id": "q1", "answers": ["yes", 1]}], 1, 'line 1.answers is ["yes", 1], expected'),
        (SAID, [{"id": "q1"}], 1, "line 1.answers is null, expected a list of strings"),
        (SAID, [], 1, "nothing to score"),
    ],
)
def test_the_error_names_ids_and_lines_that_do_not_match(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    predictions: list[dict[str, Any]],
    right: list[dict[str, Any]],
    code: int,
    message: str,
) -> None:
    one, other = (
        lines(tmp_path / "predictions.jsonl", predictions),
        lines(tmp_path / "right.jsonl", right),
    )
    assert call(monkeypatch, "score", one, "--references", other, "--metrics", "vqa") == code
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_the_help_lists_every_metric(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "score", "--help") == 0
    output = capfd.readouterr().out.split("--metrics", 1)[1]
    assert [name for name in METRICS if not re.search(rf"\b{name}\b", output)] == []


def test_missing_files_broken_lines_and_unknown_metrics_have_distinct_exit_codes(
    files: tuple[Path, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    predictions, right = files
    absent = tmp_path / "absent.jsonl"
    assert call(monkeypatch, "score", absent, "--references", right, "--metrics", "vqa") == 1
    assert "absent.jsonl cannot be read (No such file" in capfd.readouterr().err
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "q1", "prediction": "yes"}\n{"id": \n')
    assert call(monkeypatch, "score", broken, "--references", right, "--metrics", "vqa") == 1
    assert "broken.jsonl: line 2: no JSON" in capfd.readouterr().err
    assert call(monkeypatch, "score", predictions, "--references", right, "--metrics", "wer") == 2
    assert "known are vqa, exact, label, gqa, caption" in capfd.readouterr().err
    assert call(monkeypatch, "score", predictions, "--references", right, "--metrics", "VQA") == 2
    assert "did you mean vqa?" in capfd.readouterr().err


def test_scores_never_overwrite_an_input_file(
    files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    predictions, right = files
    monkeypatch.chdir(predictions.parent)
    before = predictions.read_bytes(), right.read_bytes()
    for out in (predictions.name, right):
        arguments = ("score", predictions, "--references", right, "--metrics", "vqa", "--out", out)
        assert call(monkeypatch, *arguments) == 2
        assert "would overwrite an input file" in capfd.readouterr().err
    assert (predictions.read_bytes(), right.read_bytes()) == before


@pytest.mark.slow
def test_scoring_works_without_torch(files: tuple[Path, ...]) -> None:
    absent = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'zarr']))"
    program = f"{absent}; from epalm.evaluate.cli import main; main()"
    arguments = ["score", str(files[0]), "--references", str(files[1]), "--metrics", "vqa"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "66.67" in done.stdout


def test_scores_without_per_example_scores_have_no_interval(files: tuple[Path, ...]) -> None:
    scores = load_metric("exact")(read_predictions(files[0]), read_references(files[1]))
    assert corpus_scores(scores)["exact_match"].low is not None
    alone = replace(scores, per_example={})
    assert corpus_scores(alone)["exact_match"] == Score(scores.values["exact_match"])
