"""Result files that were damaged or edited by hand: one line and exit code 1, never a traceback."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.evaluate.scores.eval_results import write_evaluation
from tests.evaluate.helpers import call, evaluation, make_run

HUGE = "1" + "0" * 400
ENDLESS = "1" + "0" * 5000
DEEP = "[" * 100_000

SUMMARY = {
    "scores": ("5", "[]", '{"exact_match": 0.5}', '{"other": {"value": 0.5}}'),
    "headline": ("null", '"absent"', "[]"),
    "breakdowns": ("[]", '{"a": {}}', '{"a": [{"name": "b", "mean": "x", "count": 1}]}'),
    "settings": ('{"decoding": 5}', "null"),
    "fingerprint": ("[]", '{"dataset": null}'),
    "kind": ('"other"', "[]"),
    "seconds": ('"x"', "null", "NaN", "Infinity", HUGE, ENDLESS, "true", DEEP),
    "memory": ("1.5", HUGE, "[]"),
    "split_size": ('"6"', "null"),
    "counts": ("null", '{"scored": 5}', '{"scored": "6"}'),
    "skipped": ("5", "[null]"),
}
"""Member of scores.json -> what somebody put there."""

LINE = {
    "scores": ("5", '{"exact_match": "x"}', '{"exact_match": null}', '{"exact_match": NaN}', "{}"),
    "references": ("5", "[null]", '"lamp"', "[]"),
    "id": ("5", "null", '"q1"'),
    "prediction": ("null", "[]"),
    "log_probability": ('"x"', "NaN", HUGE, ENDLESS),
    "tokens": ("1e999", DEEP),
}
"""Member of the first line of predictions.jsonl -> damaged values of it."""

FILES = {
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "null": b"null",
    "list": b"[]",
    "cut": b'{"run": "ti',
    "deep": DEEP.encode(),
    "blank": b"\n\n",
    "number": HUGE.encode(),
}
"""What a whole file holds."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an evaluation of the whole split."""
    root = tmp_path_factory.mktemp("whole")
    run = make_run(root).folder
    write_evaluation(run / "eval" / "val", replace(evaluation("tiny"), skipped=(), split_size=6))
    return root


Refused = Callable[[], None]


@pytest.fixture
def folder(whole: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The evaluation's folder, put back afterwards."""
    monkeypatch.chdir(whole)
    place = Path("runs/tiny/eval/val")
    shutil.copytree(place, "kept")
    yield place
    shutil.rmtree(place)
    shutil.move("kept", place)


@pytest.fixture
def refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Refused:
    """Checks that every command that reads the evaluation ends with 1 and one line."""

    def check() -> None:
        for command in (
            "compare tiny --json --quiet",
            "report tiny --quiet",
            f"submit {folder} --format gqa --out answers.json",
        ):
            code = call(monkeypatch, *command.split())
            out, err = capfd.readouterr()
            assert code == 1
            assert err.startswith("error: ")
            if "--json" in command:
                error = json.loads(out)["error"]
                assert error["type"] in {"MalformedFileError", "MissingFileError"}
                assert error["exit_code"] == 1
                assert len(error["message"]) < 1000
            else:
                assert out == ""
            assert err.count("\n") == 1
            assert len(err) < 1000

    return check


def put(file: Path, value: str, *, line: int, member: str) -> None:
    """Write a JSON text, of any kind, into a member of an object of a file."""
    lines = file.read_text().split("\n")
    text = json.dumps(json.loads(lines[line]) | {member: "@@"})
    lines[line] = text.replace('"@@"', value)
    file.write_text("\n".join(lines))


def cases(table: dict[str, tuple[str, ...]]) -> list[object]:
    return [
        pytest.param(member, value, id=f"{member}={value[:24]}")
        for member, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("member", "value"), cases(SUMMARY))
def test_a_wrong_field_of_the_scores_is_refused(
    folder: Path, refused: Refused, member: str, value: str
) -> None:
    file = folder / "scores.json"
    file.write_text(json.dumps(json.loads(file.read_text())))
    put(file, value, line=0, member=member)
    refused()


@pytest.mark.parametrize(("member", "value"), cases(LINE))
def test_a_wrong_field_of_a_prediction_is_refused(
    folder: Path, refused: Refused, member: str, value: str
) -> None:
    put(folder / "predictions.jsonl", value, line=0, member=member)
    refused()


@pytest.mark.parametrize("name", ["scores.json", "predictions.jsonl"])
@pytest.mark.parametrize("kind", [*FILES, "folder"])
def test_a_file_with_other_content_is_refused(
    folder: Path, refused: Refused, name: str, kind: str
) -> None:
    (folder / name).unlink()
    if kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(FILES[kind])
    refused()


def test_the_error_about_a_duplicate_id_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    put(folder / "predictions.jsonl", '"q1"', line=0, member="id")
    code = call(monkeypatch, "submit", folder, "--format", "gqa", "--out", "answers.json")
    assert code == 1
    assert "predictions.jsonl has the id q1 2 times, expected once" in capfd.readouterr().err
    assert not Path("answers.json").exists()


@pytest.mark.parametrize(
    "line",
    ['{"kind": "spent", "step": 1}', '{"kind": "spent", "step": NaN}', '{"kind": 5, "step": 1}',
     f'{{"kind": "train", "step": {HUGE}}}', DEEP, "\\ud800", "[]", '"kind"'],
)  # fmt: skip
def test_a_wrong_line_of_the_training_log_is_refused(
    whole: Path, refused: Refused, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del refused
    log = whole / "runs" / "tiny" / "metrics.jsonl"
    kept = log.read_text()
    log.write_text(f"{line}\n")
    try:
        assert call(monkeypatch, "compare", "tiny", "--json") == 1
    finally:
        log.write_text(kept)


def test_control_characters_of_results_never_reach_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b]0;x\x07\x1b[2J\u202e[bold]"
    result = replace(evaluation(hostile), task=hostile, headline=hostile)
    answered = tuple(replace(one, scores={hostile: 0.5}) for one in result.predictions)
    scores = {hostile: result.scores["exact_match"]}
    write_evaluation(folder, replace(result, predictions=answered, scores=scores))
    assert call(monkeypatch, "compare", "runs/tiny/eval/val") == 0
    assert call(monkeypatch, "submit", folder, "--out", "answers.json") == 2
    for text in capfd.readouterr():
        assert r"\u001b]0;x\u0007\u001b[2J\u202e[bold]" in text
        assert not set(text) & set("\x1b\x07\r\u202e")
