"""`epalm-ask --jsonl`: the answers to a file of questions, which resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from epalm.errors import UsageError
from tests.ask.small_runs import SmallRun
from tests.ask.test_cli import ask


@pytest.fixture
def questions(image_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of all questions of the run's evaluation."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for one in image_run.predictions:
        shutil.copy(image_run.file(one), tmp_path / Path(one["key"]).name)
        lines.append({"id": one["id"], "media": Path(one["key"]).name, "prompt": one["prompt"]})
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_file_of_questions_is_answered_and_a_stopped_run_resumes(
    image_run: SmallRun, questions: Path
) -> None:
    expected = {one["id"]: one["prediction"] for one in image_run.predictions}
    result = ask(image_run.run, "--jsonl", questions, "--quiet")
    assert result.exit_code == 0, result.output
    out = questions.with_suffix(".answers.jsonl")
    assert {line["id"]: line["answer"] for line in read(out)} == expected
    content = out.read_bytes()
    third = content.index(b"\n", len(content) // 3) + 1
    out.write_bytes(content[: third + 20])
    result = ask(image_run.run, "--jsonl", questions, "--quiet", "--json")
    kept = content[:third].count(b"\n")
    assert json.loads(result.stdout)["before"] == kept
    assert {line["id"]: line["answer"] for line in read(out)} == expected
    assert len(read(out)) == len(expected)
    with pytest.raises(UsageError, match=r"line 1 has decoding 'greedy.*choose another --out"):
        raise ask(image_run.run, "--jsonl", questions, "--beams", 2).exception or AssertionError
    assert out.is_file()


def test_a_sample_that_cannot_be_encoded_has_a_line_with_the_reason(
    image_run: SmallRun, questions: Path
) -> None:
    first = read(questions)[0]
    (questions.parent / first["media"]).write_bytes(b"nothing")
    for _ in range(2):  # the second time it is tried again
        result = ask(image_run.run, "--jsonl", questions, "--quiet")
        assert result.exit_code == 3
        assert "without an answer, since the sample cannot be encoded" in result.stderr
        lines = read(questions.with_suffix(".answers.jsonl"))
        failed = [line for line in lines if "error" in line]
        assert {line["media"] for line in failed} == {first["media"]}
        assert len(lines) == len(image_run.predictions)
