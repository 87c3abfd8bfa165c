"""`epalm-eval`: what it prints and its exit codes."""

import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from epalm.evaluate import cli, run_evaluation
from epalm.evaluate.scores.submission import SERVERS
from epalm.model.checkpoints.run_record import RunRecord
from tests.evaluate.helpers import TinyRun, call, evaluation, make_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return make_run(tmp_path_factory.mktemp("cli"))


def test_skipped_examples_give_exit_code_3_and_a_count(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = call(monkeypatch, "--split", "val", "--runs", tiny.folder.parent, "--quiet")
    out, err = capfd.readouterr()
    assert code == 3
    assert "exact match" in out
    assert "incomplete: 1 of 6 examples were skipped" in err


def test_a_complete_evaluation_gives_exit_code_0_and_json_on_request(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = call(
        monkeypatch, "--split", "val", "--run", tiny.folder, "--limit", 3, "--json", "--quiet"
    )
    scores = json.loads(capfd.readouterr().out)
    assert code == 0
    assert scores["counts"] == {"scored": 3, "skipped": 0}
    assert Path(scores["folder"]) == tiny.folder / "eval" / "val-first3"


def test_a_required_blind_control_must_exist_before_a_model_is_loaded(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--split", "val", "--run", tiny.folder, "--limit", 2, "--quiet")
    with monkeypatch.context() as patches:
        patches.setattr(run_evaluation, "load_run", lambda *_, **__: pytest.fail("loaded"))
        assert call(monkeypatch, *arguments, "--compare-blind", "--json") == 1
    error = json.loads(capfd.readouterr().out)["error"]
    assert error["type"] == "MissingFileError"
    assert "--blind" in error["message"]
    assert call(monkeypatch, *arguments, "--blind") == 0
    assert call(monkeypatch, *arguments, "--compare-blind") == 0
    page = tiny.folder / "eval" / "val-first2" / "report.html"
    assert 'id="compare-blind"' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "name", "words"),
    [
        (("--beams", 2), "val-first3-beams2", "2 beams, at most 3 new tokens"),
        (
            ("--sample", "--temperature", 0.5, "--top-p", 0.9, "--seed", 3),
            "val-first3-sample-t0.5-p0.9-seed3",
            "sampling (temperature 0.5, top-p 0.9, seed 3), at most 3 new tokens",
        ),
        (
            ("--answers", "top-5"),
            "val-first3-top5",
            "the most probable of the 1 most frequent answers of manifest train",
        ),
    ],
)
def test_other_decoding_settings_are_recorded_in_a_separate_folder(
    tiny: TinyRun,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    arguments: tuple[object, ...],
    name: str,
    words: str,
) -> None:
    fixed = ("--split", "val", "--run", tiny.folder, "--limit", 3, "--json", "--quiet")
    assert call(monkeypatch, *fixed, *arguments) == 0
    scores = json.loads(capfd.readouterr().out)
    assert Path(scores["folder"]) == tiny.folder / "eval" / name
    assert scores["settings"]["decoding"] == words


def test_a_split_without_answers_gives_one_warning_and_the_submit_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    line = {"id": "7", "media": "a.png", "prompt": "what is on the desk"}
    (run.data / "server.jsonl").write_text(json.dumps(line) + "\n")
    fixed = ("--split", "server", "--run", run.folder, "--quiet")
    assert call(monkeypatch, *fixed) == 0
    err = " ".join(capfd.readouterr().err.split())
    assert err.count("has no answers") == 1
    assert err.endswith("predictions.jsonl: 1 prediction without scores")
    monkeypatch.setitem(SERVERS, "manifest", "gqa")
    assert call(monkeypatch, *fixed) == 0
    folder = run.folder / "eval" / "server"
    named = (
        f"write the file for the benchmark server: epalm-eval submit {folder} --format gqa --out "
    )
    assert named in " ".join(capfd.readouterr().err.split())
    assert call(monkeypatch, *fixed, "--json") == 0
    assert json.loads(capfd.readouterr().out)["scores"] == {}


def test_a_store_of_other_features_gives_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    record = RunRecord.load(run.folder)
    replace(record, store=record.store | {"encoder": "vit-b16"}).save(run.folder)
    assert call(monkeypatch, "--split", "val", "--run", run.folder) == 4
    assert "encoder is tiny-vit, in training vit-b16" in capfd.readouterr().err


def test_a_missing_option_is_a_usage_error_of_the_installed_program() -> None:
    program = Path(sys.executable).with_name("epalm-eval")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--split" in done.stderr


def test_the_table_has_scores_times_100_with_their_intervals() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(cli.score_table(evaluation(), ("photos", "clips")))
    text = " ".join(console.export_text().split())
    assert "full: trained on photos, evaluated on clips val" in text
    assert "50.00" in text
    assert "25.00 to 75.00" in text
    assert "12.50" in text
