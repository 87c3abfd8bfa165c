"""Evaluation of a tiny run."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from epalm.cache.readers.open_reader import open_store
from epalm.errors import DataError, MissingFileError, UnknownSplitError, UsageError
from epalm.evaluate import run_evaluation
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.preparation.eval_preparation import prepare
from epalm.evaluate.preparation.run_lookup import find_run
from epalm.evaluate.report.report_files import evaluated
from epalm.evaluate.run_evaluation import EvaluationResult, evaluate
from epalm.evaluate.scores.eval_results import read_evaluation
from epalm.evaluate.scores.submission import write_submission
from epalm.metrics import exact_scores
from epalm.metrics.metric_registry import load_metric
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.generation.decode import generate
from epalm.model.method.model_settings import Decoding
from epalm.tasks.task_registry import load_task
from epalm.tasks.types import Prediction
from tests.cache.helpers import describe_media
from tests.evaluate.helpers import BROKEN, TinyRun, make_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return make_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(tiny: TinyRun) -> EvaluationResult:
    return evaluate(EvalOptions(run=str(tiny.folder), split="val", batch_size=3, quiet=True))


class Witness:
    """Answers one question at a time, without any of the evaluation's code."""

    def __init__(self, run: TinyRun) -> None:
        self.run = load_run(run.folder)
        self.source = open_store(run.store)

    def says(self, prompt: str, key: str, decoding: Decoding | None = None) -> str:
        tokens = torch.from_numpy(self.source.read([key]))
        record = self.run.record
        ids, mask = self.run.text.collate_prompts([prompt])
        new = generate(self.run.model, tokens, ids, mask, decoding or record.decoding)
        text: str = self.run.text.tokenizer.decode(new[0], skip_special_tokens=True)
        return text.strip()


@pytest.fixture(scope="module")
def witness(tiny: TinyRun) -> Witness:
    return Witness(tiny)


def test_batched_predictions_equal_those_of_single_questions(
    finished: EvaluationResult, witness: Witness
) -> None:
    actual = finished.evaluation
    assert [one.id for one in actual.predictions] == ["q1", "q2", "q3", "q5", "q6"]
    for one in actual.predictions:
        assert one.prediction == witness.says(one.prompt, one.key)
    assert len({one.prediction for one in actual.predictions}) > 1


def test_the_folder_has_the_evaluation_and_a_report(
    tiny: TinyRun, finished: EvaluationResult
) -> None:
    assert finished.folder == tiny.folder / "eval" / "val"
    assert read_evaluation(finished.folder) == finished.evaluation
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert "tiny, val" in page
    assert page.count("data:image/png;base64,") == 5
    assert page.count("<svg") == 3
    assert sorted(file.name for file in finished.folder.glob("*.png")) == [
        "report-calibration.png",
        "report-loss.png",
        "report-validation.png",
    ]


def test_the_cost_and_the_inputs_of_an_evaluation_are_recorded(
    tiny: TinyRun, finished: EvaluationResult
) -> None:
    actual = finished.evaluation
    assert (actual.features, actual.data_root) == (str(tiny.store), str(tiny.data))
    assert actual.device == "cpu"
    assert actual.seconds > 0
    assert 10_000_000 < actual.memory < 100_000_000_000
    assert all(one.log_probability is not None for one in actual.predictions)


def test_an_example_whose_sample_could_not_be_encoded_is_skipped_and_listed(
    finished: EvaluationResult,
) -> None:
    assert finished.evaluation.skipped == ("q4",)
    assert BROKEN not in {one.key for one in finished.evaluation.predictions}


def test_the_scores_are_the_metrics_with_intervals_and_groups(
    tiny: TinyRun, finished: EvaluationResult
) -> None:
    actual = finished.evaluation
    examples = [
        example
        for example in load_task("manifest", tiny.data).examples("val", tiny.data)
        if example.question_id not in actual.skipped
    ]
    predictions = [Prediction(one.id, one.key, one.prediction) for one in actual.predictions]
    scores = load_metric("exact")(predictions, examples)
    assert {name: score.value for name, score in actual.scores.items()} == scores.values
    intervals = {name: (one.low, one.high) for name, one in actual.scores.items()}
    assert intervals == {name: (None, None) for name in scores.values}  # all five are wrong
    assert {group.name: group.count for group in actual.breakdowns["question type"]} == {
        "what": 3,
        "how many": 1,
    }


def test_the_blind_control_answers_from_another_sample_of_the_split(
    tiny: TinyRun, finished: EvaluationResult, witness: Witness
) -> None:
    true = finished.evaluation.predictions
    control = evaluate(EvalOptions(run=str(tiny.folder), split="val", blind=True, quiet=True))
    blind = control.evaluation.predictions
    assert control.folder == tiny.folder / "eval" / "val-blind"
    assert control.evaluation.blind
    for one in blind:
        others = {other.key for other in blind} - {one.key}
        assert one.prediction in {witness.says(one.prompt, key) for key in others}
    assert [one.prediction for one in blind] != [one.prediction for one in true]


def test_a_run_that_was_trained_blind_is_evaluated_blind(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    replace(RunRecord.load(run.folder), blind=True).save(run.folder)
    finished = evaluate(EvalOptions(run=str(run.folder), split="val", quiet=True))
    assert finished.evaluation.blind
    assert finished.folder.name == "val-blind"


def test_a_limited_evaluation_has_a_separate_folder(tiny: TinyRun) -> None:
    finished = evaluate(EvalOptions(run=str(tiny.folder), split="val", limit=2, quiet=True))
    assert finished.folder.name == "val-first2"
    assert [one.id for one in finished.evaluation.predictions] == ["q1", "q2"]
    assert finished.evaluation.split_size == 6
    with pytest.raises(DataError, match="the first 2 of 6 questions"):
        write_submission(finished.folder, "gqa", finished.folder / "answers.json")


def test_an_unknown_split_is_refused_before_a_model_is_loaded(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_evaluation, "load_run", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UnknownSplitError, match=r"no split 'karpathy_test'.*train, val"):
        evaluate(EvalOptions(run=str(tiny.folder), split="karpathy_test"))


def test_a_question_without_answers_among_others_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr(run_evaluation, "load_run", lambda *_: pytest.fail("a model was loaded"))
    line = {"id": "q8", "media": "a.png", "prompt": "what", "answers": ["lamp"]}
    bare = line | {"id": "q9", "answers": []}
    (run.data / "test.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(bare)}\n")
    with pytest.raises(DataError, match="q9 has no reference"):
        evaluate(EvalOptions(run=str(run.folder), split="test"))


def test_a_split_without_answers_is_predicted_and_ready_for_a_server(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    names = {"q1": "11", "q2": "12"}
    lines = [json.loads(line) for line in (run.data / "val.jsonl").read_text().splitlines()]
    bare = [
        {"id": names[line["id"]], "media": line["media"], "prompt": line["prompt"]}
        for line in lines
        if line["id"] in names
    ]
    (run.data / "server.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bare))
    done = evaluate(EvalOptions(run=str(run.folder), split="server", quiet=True))
    scored = evaluate(EvalOptions(run=str(run.folder), split="val", quiet=True)).evaluation
    assert done.evaluation.scores == {}
    assert {path.name for path in done.folder.iterdir()} == {"predictions.jsonl", "unscored.json"}
    assert read_evaluation(done.folder) == done.evaluation
    output = {one.id: one.prediction for one in scored.predictions}
    write_submission(done.folder, "vqa", tmp_path / "vqa.json")
    assert json.loads((tmp_path / "vqa.json").read_text()) == [
        {"question_id": int(new), "answer": output[old]} for old, new in names.items()
    ]
    assert [folder.name for folder in evaluated(run.folder)] == ["val"]


def test_predictions_are_on_the_disk_before_they_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    first = evaluate(EvalOptions(run=str(run.folder), split="val", quiet=True))
    output = (first.folder / "predictions.jsonl").read_text()
    (first.folder / "predictions.jsonl").unlink()
    monkeypatch.setattr(exact_scores, "equals_any", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(EvalOptions(run=str(run.folder), split="val", quiet=True))
    text = (first.folder / "predictions.jsonl").read_text(encoding="utf-8")
    actual = [json.loads(line) for line in text.splitlines()]
    expected = [json.loads(line) | {"scores": {}} for line in output.splitlines()]
    assert actual == expected
    assert not (first.folder / "scores.json").exists()


@pytest.mark.parametrize("reader", ["mapped", "pread"])
def test_every_reader_gives_the_same_answers(
    tiny: TinyRun, finished: EvaluationResult, reader: str
) -> None:
    again = evaluate(
        EvalOptions(run=str(tiny.folder), split="val", batch_size=3, reader=reader, quiet=True)
    )
    assert again.evaluation.predictions == finished.evaluation.predictions


def test_an_unknown_reader_is_named(tiny: TinyRun) -> None:
    with pytest.raises(UsageError, match="reader 'gpu' is unknown; known are auto, ram"):
        evaluate(EvalOptions(run=str(tiny.folder), split="val", reader="gpu", quiet=True))


def test_missing_files_of_samples_do_not_stop_an_evaluation(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for picture in run.data.glob("*.png"):
        picture.unlink()
    finished = evaluate(EvalOptions(run=str(run.folder), split="val", quiet=True))
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert len(finished.evaluation.predictions) == 5
    assert "data:image" not in page


def test_the_newest_run_with_a_finished_epoch_is_the_default(tmp_path: Path) -> None:
    for age, name in enumerate(("refused", "newest", "older", "oldest")):
        record = tmp_path / name / "run.json"
        record.parent.mkdir()
        record.write_text("{}")
        os.utime(record, (1_000_000 - age, 1_000_000 - age))
        if name != "refused":
            (record.parent / "adapter.safetensors").touch()
    assert find_run(tmp_path).name == "newest"
    assert find_run(tmp_path, "older") == tmp_path / "older"
    assert find_run(tmp_path, str(tmp_path / "oldest")) == tmp_path / "oldest"


def test_errors_about_missing_runs_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"there is no run in .* train one with"):
        find_run(tmp_path)
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / "run.json").write_text("{}")
    with pytest.raises(MissingFileError, match=r"none of the 1 run in .* has finished an epoch"):
        find_run(tmp_path)
    with pytest.raises(MissingFileError, match=r"neither x nor .*has a run\.json"):
        find_run(tmp_path, "x")


def test_an_image_edited_since_extraction_is_named_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path)
    describe_media(run.store, run.data)
    prepare(EvalOptions(run=str(run.folder), split="val", quiet=True))
    assert "changed" not in caplog.text
    os.utime(run.data / "a.png", ns=(0, 5))
    prepare(EvalOptions(run=str(run.folder), split="val", quiet=True))
    assert "1 of 3 media files checked changed" in caplog.text
    assert "(a.png)" in caplog.text
    caplog.clear()
    for photo in run.data.glob("*.png"):
        photo.unlink()
    prepare(EvalOptions(run=str(run.folder), split="val", quiet=True))
    assert "changed" not in caplog.text
