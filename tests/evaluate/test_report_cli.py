"""`epalm-eval report` and `epalm-eval compare` on existing evaluations."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epalm.errors import MissingFileError
from epalm.evaluate import run_evaluation
from epalm.evaluate.cli import app
from epalm.evaluate.report import report_files
from epalm.evaluate.scores.eval_results import Evaluation, write_evaluation
from epalm.model.checkpoints.run_record import RunRecord
from epalm.tasks.types import MediaItem
from tests.evaluate.helpers import COLORS, TinyRun, evaluation, make_run
from tests.evaluate.report.test_embedded_media import write_m4a

RUNNER = CliRunner()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    """A run with an evaluation; answering again would fail."""
    monkeypatch.setattr(run_evaluation, "load_run", lambda *_: pytest.fail("a model was loaded"))
    run = make_run(tmp_path)
    write_evaluation(run.folder / "eval" / "val", evaluation("tiny"))
    return run


def add_run(tiny: TinyRun, name: str, found: Evaluation, *, folder: str = "val") -> Path:
    run = tiny.folder.with_name(name)
    shutil.copytree(tiny.folder, run, ignore=shutil.ignore_patterns("eval"))
    replace(RunRecord.load(run), name=name, trained=2500).save(run)
    write_evaluation(run / "eval" / folder, replace(found, run=name))
    return run


def all_right() -> Evaluation:
    actual = evaluation(text="cup")
    answered = tuple(replace(one, scores={"exact_match": 1.0}) for one in actual.predictions)
    return replace(actual, predictions=answered)


def invoke(tiny: TinyRun, *arguments: str) -> str:
    done = RUNNER.invoke(app, [*arguments, "--runs", str(tiny.folder.parent), "--quiet"])
    if done.exception:
        raise done.exception
    return done.stdout


def test_a_report_is_written_again_without_a_model(tiny: TinyRun) -> None:
    page = tiny.folder / "eval" / "val" / "report.html"
    assert invoke(tiny, "report", "tiny").split() == [str(page)]
    text = page.read_text(encoding="utf-8")
    assert "what is on the desk?" in text
    assert text.count("data:image/png;base64,") == 6
    assert "1,000" in text  # trained parameters


def test_a_run_trained_blind_is_shown_beside_with_its_answers(tiny: TinyRun) -> None:
    blind = replace(evaluation(text="wall"), blind=True)
    add_run(tiny, "tiny_blind", blind, folder="val-blind")
    invoke(tiny, "report", "tiny", "--split", "val")
    page = (tiny.folder / "eval" / "val" / "report.html").read_text(encoding="utf-8")
    assert page.count(">wall<") == 6
    assert "<li>blind control, each example has another sample&#39;s features</li>" in page
    assert 'id="compare-blind"' in page
    assert "2,500" in page


def test_a_run_evaluated_blind_is_shown_beside_itself_but_was_trained_once(tiny: TinyRun) -> None:
    blind = replace(evaluation("tiny", text="wall"), blind=True)
    write_evaluation(tiny.folder / "eval" / "val-blind", blind)
    invoke(tiny, "report", "tiny")
    page = (tiny.folder / "eval" / "val" / "report.html").read_text(encoding="utf-8")
    assert page.count(">wall<") == 6
    assert "evaluated blind: blind control, each example" in page
    costs = page[page.index('id="costs"') : page.index('id="calibration"')]
    assert "evaluated blind" not in costs


def test_the_run_is_named_once_and_local_paths_never(tiny: TinyRun) -> None:
    old = RunRecord.load(tiny.folder)
    recorded = old.store | {"fingerprint.preprocessing.name": "official"}
    record = replace(old, name="observed", recipe=str(tiny.data / "r.toml"), store=recorded)
    folder = tiny.folder.with_name("observed")
    shutil.copytree(tiny.folder, folder)
    record.save(folder)
    paths = {
        "language model": f"{record.model.lm}, frozen, fp32",
        "encoder": "tiny-vit, frozen",
        "recipe": record.recipe,
        "trained on": f"data, task manifest, features {tiny.store}",
    }
    written = replace(evaluation("observed"), settings=paths, features=str(tiny.store))
    write_evaluation(folder / "eval" / "val", written)
    invoke(tiny, "report", "observed")
    page = (folder / "eval" / "val" / "report.html").read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    assert body.count("observed") == 1
    assert str(tiny.folder.parents[1]) not in page
    assert "<td>lm, frozen, fp32</td>" in page
    assert "<td>data, task manifest, features tiny.zarr</td>" in page
    assert "<td>r.toml</td>" in page
    assert "<td>paper</td>" in page  # preprocessing


def test_the_blind_control_can_be_demanded_and_left_out(tiny: TinyRun) -> None:
    with pytest.raises(MissingFileError, match=r"val of .*tiny has no blind .*--blind`"):
        invoke(tiny, "report", "tiny", "--compare-blind")
    blind = replace(evaluation("tiny", text="wall"), blind=True)
    write_evaluation(tiny.folder / "eval" / "val-blind", blind)
    page = tiny.folder / "eval" / "val" / "report.html"
    invoke(tiny, "report", "tiny", "--compare-blind", "--split", "val")
    assert page.read_text(encoding="utf-8").count(">wall<") == 6
    invoke(tiny, "report", "tiny", "--no-compare-blind", "--split", "val")
    text = page.read_text(encoding="utf-8")
    assert "wall" not in text[text.index("<body>") :]
    assert 'id="compare-blind"' not in text
    with pytest.raises(MissingFileError, match=r"val-blind of .* has no blind control"):
        invoke(tiny, "report", "tiny", "--compare-blind", "--split", "val-blind")


def test_reports_can_be_listed_as_json(tiny: TinyRun) -> None:
    actual = json.loads(invoke(tiny, "report", "tiny", "--json"))
    (only,) = actual["reports"]
    assert only["report"] == str(tiny.folder / "eval" / "val" / "report.html")
    assert (only["run"], only["task"], only["split"]) == ("tiny", "manifest", "val")
    assert only["score"] == {"value": 0.5, "low": 0.25, "high": 0.75}


def test_the_error_about_a_missing_evaluation_lists_the_existing_ones(tiny: TinyRun) -> None:
    with pytest.raises(MissingFileError, match=r"has no test, it has val"):
        invoke(tiny, "report", "tiny", "--split", "test")
    with pytest.raises(MissingFileError, match=r"evaluated on val, not on test: .*`epalm-eval"):
        invoke(tiny, "compare", "tiny", "--split", "test")


def test_predictions_without_scores_have_no_report(tiny: TinyRun) -> None:
    unscored = replace(evaluation("tiny"), scores={}, headline="", split="test")
    write_evaluation(tiny.folder / "eval" / "test", unscored)
    assert invoke(tiny, "report", "tiny").split() == [
        str(tiny.folder / "eval" / "val" / "report.html")
    ]
    with pytest.raises(MissingFileError, match=r"has no test, it has val"):
        invoke(tiny, "report", "tiny", "--split", "test")


def test_a_report_without_the_store_has_no_images(tiny: TinyRun) -> None:
    shutil.rmtree(tiny.store)
    invoke(tiny, "report", "tiny")
    page = (tiny.folder / "eval" / "val" / "report.html").read_text(encoding="utf-8")
    assert "data:image" not in page
    assert page.count("what is on the desk?") >= 6


def test_a_report_of_an_audio_encoder_has_the_sound_tracks_of_videos(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tiny.data / "clip.mp4"
    write_m4a(clip, 1.0)
    media = {key: MediaItem(key, tiny.data, clip.name, "video") for key in COLORS}
    monkeypatch.setattr(report_files, "find_media", lambda *_, **__: media)
    actual = evaluation("tiny")
    heard = actual.fingerprint | {"fingerprint.filter_bank": "kaldi"}
    write_evaluation(tiny.folder / "eval" / "val", replace(actual, fingerprint=heard))
    invoke(tiny, "report", "tiny")
    page = (tiny.folder / "eval" / "val" / "report.html").read_text(encoding="utf-8")
    assert page.count('<audio src="data:audio/mpeg;base64,') == 6
    assert page.count(": spectrogram up to 8 kHz") == 6
    assert "<video" not in page
    assert "<td>sound tracks of videos</td>" in page


def test_runs_are_compared_question_by_question(tiny: TinyRun) -> None:
    add_run(tiny, "better", all_right())
    actual = json.loads(invoke(tiny, "compare", "tiny", "better", "--json"))
    assert [one["run"] for one in actual["runs"]] == ["tiny", "better"]
    first, other = actual["runs"]
    assert first["difference"] is None
    assert other["difference"]["value"] == 0.5
    assert 0 < other["difference"]["p"] <= 1
    assert other["costs"]["trained"] == 2500
    assert other["costs"]["training"] is None  # its metrics.jsonl says nothing of time


def test_the_table_has_runs_scores_and_published_results(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("a", "b"):
        add_run(tiny, name, replace(evaluation(), task="msvd-qa"))
    shown = invoke(tiny, "compare", "a", "b")
    for words in ("msvd-qa val", "50.00", "25.00 to 75.00", "+0.00", "2,500", "38.40", "table 1"):
        assert words in shown


def test_the_image_gain_of_the_best_epoch_is_compared_and_on_the_page(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    add_run(tiny, "blind", evaluation())
    gains = ({"image_gain": 0.03, "image_gain_low": 0.02, "image_gain_high": 0.0456}, {})
    for name, gain in zip(("tiny", "blind"), gains, strict=True):
        first = {"kind": "val", "step": 2, "epoch": 1, "loss": 2.5, "exact_match": 0.5} | gain
        later = first | {"epoch": 2, "loss": 2.75, "exact_match": 0.75}
        log = tiny.folder.with_name(name) / "metrics.jsonl"
        log.write_text(json.dumps(first) + "\n" + json.dumps(later) + "\n")
    shown = invoke(tiny, "compare", "tiny", "blind")
    assert "image gain, nats per token" in shown
    assert "0.0200 to 0.0456" in shown
    assert "2.7500" not in shown  # the loss comes first here, so it selects the epoch
    runs = json.loads(invoke(tiny, "compare", "tiny", "blind", "--json"))["runs"]
    assert [one["validation"]["epoch"] for one in runs] == [1, 1]
    assert runs[0]["validation"]["image_gain"] == 0.03
    assert "image_gain" not in runs[1]["validation"]
    invoke(tiny, "report", "tiny")
    folder = tiny.folder / "eval" / "val"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<td>0.0300<br><small>0.0200 to 0.0456</small></td>" in page
    assert "Image gain, nats per token" in page
    assert (folder / "report-image-gain.png").is_file()


def test_a_comparison_can_be_written_as_a_report(tiny: TinyRun, tmp_path: Path) -> None:
    add_run(tiny, "better", all_right())
    out = tmp_path / "compare.html"
    invoke(tiny, "compare", "tiny", "better", "--out", str(out))
    page = out.read_text(encoding="utf-8")
    assert "manifest, val: 2 runs" in page
    assert "+50.00" in page
    assert (tmp_path / "compare-loss.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_the_same_name_are_labeled_by_their_folders(tiny: TinyRun) -> None:
    other = shutil.copytree(tiny.folder.parent, tiny.folder.parent.with_name("elsewhere"))
    actual = json.loads(invoke(tiny, "compare", "tiny", str(other / "tiny"), "--json"))
    assert [one["run"] for one in actual["runs"]] == ["runs/tiny", "elsewhere/tiny"]


def test_an_evaluation_is_compared_by_its_folder(tiny: TinyRun) -> None:
    moved = add_run(tiny, "moved", all_right(), folder="data-val") / "eval" / "data-val"
    with pytest.raises(
        MissingFileError, match=r"tiny has val; moved has data-val.*as in .*/data-val"
    ):
        invoke(tiny, "compare", "tiny", "moved")
    with pytest.raises(MissingFileError, match=r"on data-val, not on val: .*moved/eval/FOLDER"):
        invoke(tiny, "compare", "tiny", "moved", "--split", "val")
    for named in (str(moved), "moved/eval/data-val"):
        actual = json.loads(invoke(tiny, "compare", named, "tiny", "--json"))
        assert [one["run"] for one in actual["runs"]] == ["moved", "tiny"]
        assert actual["runs"][1]["difference"]["value"] == -0.5


def add_newer(tiny: TinyRun, run: str, folder: str, found: Evaluation) -> None:
    """An evaluation that is newer than those before, by whole seconds."""
    place = tiny.folder.with_name(run) / "eval" / folder
    write_evaluation(place, replace(found, run=run))
    newest = max(file.stat().st_mtime for file in place.parent.glob("*/scores.json")) + 5
    os.utime(place / "scores.json", (newest, newest))


def test_by_default_whole_splits_are_compared_even_if_older(tiny: TinyRun) -> None:
    add_run(tiny, "control", replace(all_right(), blind=True), folder="val-blind")
    control = tiny.folder.with_name("control")
    replace(RunRecord.load(control), blind=True).save(control)
    few = replace(evaluation(answers=2), split_size=7, skipped=())
    for folder in ("val-first2", "val-first2-blind", "val-beams3"):
        add_newer(tiny, "tiny", folder, few)
    add_newer(tiny, "control", "val-first2-blind", few)
    actual = json.loads(invoke(tiny, "compare", "tiny", "control", "--json"))
    assert [one["run"] for one in actual["runs"]] == ["tiny", "control, blind"]
    assert [(one["asked"], one["split_size"]) for one in actual["runs"]] == [(7, 7), (7, 7)]
    limited = json.loads(
        invoke(tiny, "compare", "tiny", "control", "--split", "val-first2", "--json")
    )
    assert [one["run"] for one in limited["runs"]] == ["tiny, first2", "control, first2-blind"]
    assert limited["runs"][0]["asked"] == 2


def test_the_blind_control_of_a_run_is_never_compared_as_the_run(tiny: TinyRun) -> None:
    add_run(tiny, "other", replace(all_right(), blind=True), folder="val-blind")
    with pytest.raises(MissingFileError, match="tiny has val; other has val-blind"):
        invoke(tiny, "compare", "tiny", "other")
    with pytest.raises(MissingFileError, match="evaluated on val-blind, not on val"):
        invoke(tiny, "compare", "tiny", "other", "--split", "val")


def test_an_evaluation_of_a_part_of_the_split_is_suggested_but_not_taken(
    tiny: TinyRun,
) -> None:
    add_run(tiny, "other", evaluation(answers=2), folder="val-first2")
    write_evaluation(tiny.folder / "eval" / "val-first2", evaluation("tiny", answers=2))
    with pytest.raises(
        MissingFileError, match=r"--run RUN --split val`, or use `--split val-first2`"
    ):
        invoke(tiny, "compare", "tiny", "other")


def test_a_given_evaluation_is_compared_with_one_of_the_same_split(tiny: TinyRun) -> None:
    test = add_run(tiny, "other", replace(all_right(), split="test"), folder="test")
    write_evaluation(tiny.folder / "eval" / "test", replace(evaluation("tiny"), split="test"))
    add_newer(tiny, "tiny", "val", evaluation())
    actual = json.loads(invoke(tiny, "compare", str(test / "eval" / "test"), "tiny", "--json"))
    assert actual["split"] == "test"
    assert json.loads(invoke(tiny, "compare", "tiny", "--json"))["split"] == "val"


def test_reports_and_tables_show_the_number_of_questions_and_the_decoding(
    tiny: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    beams = replace(
        evaluation(answers=2), split_size=7, skipped=(), settings={"decoding": "3 beams"}
    )
    add_newer(tiny, "tiny", "val-first2-beams3", beams)
    invoke(tiny, "report", "tiny", "--split", "val-first2-beams3")
    page = tiny.folder / "eval" / "val-first2-beams3" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "<h1>tiny, val-first2-beams3</h1>" in text
    assert "<title>tiny, val-first2-beams3</title>" in text
    assert '<li class="warn">first 2 of 7 questions</li>' in text
    assert "decoding <b>3 beams</b>" in text
    out = tmp_path / "compare.html"
    shown = invoke(tiny, "compare", "tiny/eval/val-first2-beams3", "--out", str(out))
    for words in ("manifest val-first2-beams3", "tiny, first2-beams3", "first 2 of 7 questions"):
        assert words in shown
    assert "<h1>manifest, val-first2-beams3: 1 run</h1>" in out.read_text(encoding="utf-8")
    both = invoke(tiny, "compare", "tiny/eval/val", "tiny/eval/val-first2-beams3")
    assert "manifest val " in both
    assert "7 questions" in both


def test_two_evaluations_of_one_run_are_labeled_by_their_folders(tiny: TinyRun) -> None:
    write_evaluation(tiny.folder / "eval" / "data-val", replace(all_right(), run="tiny"))
    actual = json.loads(invoke(tiny, "compare", "tiny/eval/data-val", "tiny/eval/val", "--json"))
    assert [one["run"] for one in actual["runs"]] == ["tiny/eval/data-val", "tiny/eval/val"]


def test_names_of_250_letters_have_reports_and_columns(tiny: TinyRun, tmp_path: Path) -> None:
    name = "n" * 250
    add_run(tiny, name, all_right())
    page = tiny.folder.with_name(name) / "eval" / "val" / "report.html"
    assert invoke(tiny, "report", name).split() == [str(page)]
    out = tmp_path / ("p" * 230 + ".html")
    shown = invoke(tiny, "compare", "tiny", name, "--out", str(out))
    assert name in shown
    assert name in out.read_text(encoding="utf-8")
