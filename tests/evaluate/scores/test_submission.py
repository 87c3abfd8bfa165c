"""`epalm-eval submit`: files for benchmark servers."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.errors import DataError, MissingFileError, UsageError
from epalm.evaluate.scores.eval_results import Evaluation, write_evaluation
from epalm.evaluate.scores.submission import (
    FORMATS,
    KINDS,
    SERVERS,
    submit_command,
    write_submission,
)
from epalm.tasks.task_registry import TASKS, load_task
from epalm.tasks.types import Kind
from tests.evaluate.helpers import call, evaluation

ROWS = {
    "vqa": {"question_id": 262148000, "answer": "a café"},
    "nocaps": {"image_id": 262148000, "caption": "a café"},
    "gqa": {"questionId": "262148000", "prediction": "a café"},
}


def whole(made: Evaluation) -> Evaluation:
    """The same of a split that has no other question."""
    return replace(made, skipped=(), split_size=len(made.predictions))


def numbered() -> Evaluation:
    """An evaluation whose ids are numbers."""
    made = evaluation(text="a café")
    answered = [replace(one, id=str(262148000 + row)) for row, one in enumerate(made.predictions)]
    return whole(replace(made, predictions=tuple(answered)))


def asked(form: str) -> Evaluation:
    """The same of a task without a server, of the kind that the format holds."""
    return replace(numbered(), kind=KINDS[form])


def test_every_format_has_an_expected_row_and_a_task_of_its_kind() -> None:
    assert ROWS.keys() == FORMATS.keys() == KINDS.keys() == set(SERVERS.values())
    assert SERVERS.keys() <= TASKS.keys()
    assert all(load_task(task).kind == KINDS[form] for task, form in SERVERS.items())


@pytest.mark.parametrize("form", FORMATS)
def test_a_submission_is_one_list_with_the_servers_keys_and_types(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_evaluation(tmp_path / "val", asked(form))
    out = tmp_path / "answers.json"
    assert call(monkeypatch, "submit", tmp_path / "val", "--format", form, "--out", out) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert len(rows) == 6
    assert rows[0] == ROWS[form]
    err = " ".join(capfd.readouterr().err.split())
    assert f"6 answers of val in the format {form} val has published answers and is scored" in err


@pytest.mark.parametrize(("task", "form"), SERVERS.items())
def test_the_format_follows_from_the_task(
    task: str,
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_evaluation(tmp_path / "test", replace(asked(form), task=task, scores={}, headline=""))
    out = tmp_path / "answers.json"
    assert call(monkeypatch, "submit", tmp_path / "test", "--out", out) == 0
    assert json.loads(out.read_text(encoding="utf-8"))[0] == ROWS[form]
    assert "has answers" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("task", "kind", "form", "words"),
    [
        ("vqa2", "qa", "nocaps", "the server of vqa2 takes --format vqa, found nocaps"),
        ("gqa", "qa", "vqa", "the server of gqa takes --format gqa, found vqa"),
        ("msvd-qa", "qa", "", "no server of the task msvd-qa is known: .*--format vqa or gqa"),
        ("coco-caption", "caption", "", "no server of the task coco-caption .*--format nocaps"),
        ("manifest", "qa", "nocaps", "--format nocaps is for captions, and manifest has answ"),
        ("coco-caption", "caption", "vqa", "vqa is for answers, and coco-caption has captions"),
    ],
)
def test_a_format_that_is_not_the_tasks_is_refused(
    tmp_path: Path, *, task: str, kind: Kind, form: str, words: str
) -> None:
    write_evaluation(tmp_path / "val", replace(numbered(), task=task, kind=kind))
    with pytest.raises(UsageError, match=words):
        write_submission(tmp_path / "val", form, tmp_path / "answers.json")
    assert not (tmp_path / "answers.json").exists()


def test_the_printed_submit_command_can_be_run_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a run" / "eval" / "test2015"
    result = replace(numbered(), task="vqa2", scores={}, headline="")
    write_evaluation(folder, result)
    name, *arguments = shlex.split(submit_command(folder, result))
    monkeypatch.chdir(tmp_path)
    assert name == "epalm-eval"
    assert call(monkeypatch, *arguments) == 0
    assert len(json.loads(Path("val.json").read_text(encoding="utf-8"))) == 6
    for refused in (
        replace(result, task="manifest"),
        replace(result, skipped=("7",)),
        replace(result, split_size=7),
    ):
        assert submit_command(folder, refused) == ""


def test_an_id_that_is_not_a_number_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "val", whole(evaluation()))
    with pytest.raises(DataError, match="id 'q0' is not a number"):
        write_submission(tmp_path / "val", "vqa", tmp_path / "answers.json")
    assert not (tmp_path / "answers.json").exists()
    form, result = write_submission(tmp_path / "val", "gqa", tmp_path / "answers.json")
    assert (form, len(result.predictions)) == ("gqa", 6)


def test_an_evaluation_with_skipped_questions_is_refused(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "val", replace(numbered(), skipped=("77", "78"), split_size=8))
    with pytest.raises(DataError, match=r"lacks 2 questions of val, the first is 77.*retry-failed"):
        write_submission(tmp_path / "val", "vqa", tmp_path / "answers.json")


@pytest.mark.parametrize(
    ("skipped", "size", "words"),
    [
        ((), 7, "has the first 6 of 7 questions of val, .* without --limit"),
        (("77",), 214_354, "has the first 7 of 214354 questions of val, .* without --limit"),
        ((), 0, "an earlier version, .* run the same `epalm-eval` again"),
    ],
)
def test_an_evaluation_of_a_part_of_the_split_or_of_unknown_size_is_refused(
    tmp_path: Path, *, skipped: tuple[str, ...], size: int, words: str
) -> None:
    write_evaluation(tmp_path / "val", replace(numbered(), skipped=skipped, split_size=size))
    with pytest.raises(DataError, match=words):
        write_submission(tmp_path / "val", "vqa", tmp_path / "answers.json")
    assert not (tmp_path / "answers.json").exists()


def test_unknown_formats_and_folders_without_an_evaluation_are_errors(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "val", numbered())
    with pytest.raises(UsageError, match="choose one of vqa, nocaps, gqa"):
        write_submission(tmp_path / "val", "coco", tmp_path / "answers.json")
    with pytest.raises(MissingFileError, match="has no evaluation"):
        write_submission(tmp_path / "absent", "vqa", tmp_path / "answers.json")


def test_the_written_file_is_named_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_evaluation(tmp_path / "val", asked("vqa"))
    out = tmp_path / "answers.json"
    arguments = (tmp_path / "val", "--format", "vqa", "--out", out, "--json")
    assert call(monkeypatch, "submit", *arguments) == 0
    assert json.loads(capfd.readouterr().out) == {
        "file": str(out),
        "format": "vqa",
        "answers": 6,
        "task": "manifest",
        "split": "val",
    }
