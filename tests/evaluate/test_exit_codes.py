"""The exit code of each kind of mistake, in `epalm-eval` and its subcommands."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.evaluate.scores.eval_results import write_evaluation
from epalm.model.checkpoints.run_record import RunRecord
from tests.evaluate.helpers import call, evaluation, make_run

EVALUATE = "--split val --run tiny --quiet"
SCORE = "score predictions.jsonl --references right.jsonl --metrics exact"
SUBMIT = "submit whole --format gqa --out answers.json"
INSTALL = "install-spice --quiet --source"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, evaluations and files, some of them damaged."""
    root = tmp_path_factory.mktemp("world")
    run = make_run(root).folder
    record, result = RunRecord.load(run), evaluation("tiny")
    for name in ("blocked", "damaged", "raw", "nobody", "unrecorded", "scribbled"):
        shutil.copytree(run, run.with_name(name))
    (run.with_name("blocked") / "eval").touch()
    (run.with_name("damaged") / "run.json").write_text("{")
    (run.with_name("raw") / "adapter.safetensors").unlink()
    without = replace(record.model, lm=str(root / "nowhere"))
    replace(record, model=without).save(run.with_name("nobody"))
    (run.with_name("unrecorded") / "recipe.toml").write_text("= =")
    (run.with_name("scribbled") / "recipe.toml").write_bytes(b"epochs = 4\nlr = \xff\n")
    write_evaluation(run.with_name("scribbled") / "eval" / "val", result)
    write_evaluation(run / "eval" / "val", result)
    write_evaluation(run / "eval" / "server", replace(result, scores={}, headline=""))
    write_evaluation(run.with_name("raw") / "eval" / "val", replace(result, task="msvd-qa"))
    write_evaluation(root / "whole", replace(result, skipped=(), split_size=6))
    write_evaluation(root / "cut", replace(result, split_size=100))
    write_evaluation(root / "spoilt", result)
    (root / "spoilt" / "scores.json").write_text("{")
    (root / "predictions.jsonl").write_text('{"id": 1, "prediction": "a"}\n')
    (root / "right.jsonl").write_text('{"id": 1, "answers": ["a"]}\n')
    (root / "others.jsonl").write_text('{"id": 2, "answers": ["a"]}\n')
    (root / "broken.jsonl").write_text('{"id":\n')
    (root / "deep.jsonl").write_text("[" * 100_000)
    (root / "long.jsonl").write_text('{"id": 1' + "0" * 5000 + ', "answers": ["a"]}\n')
    (root / "half.jsonl").write_text('{"id": 1, "prediction": "\\ud83d"}\n')
    (root / "binary").write_bytes(b"\xff\xfe\x00")
    (root / "blank").write_text("\n")
    (root / "folder").mkdir()
    return root


WRONG = {
    "": "--split must be given",
    "--split vall --run tiny": "has no split 'vall': choose one of train, val",
    f"{EVALUATE} --bogus": "No such option",
    f"{EVALUATE} --batch-size 0": "--batch-size",
    f"{EVALUATE} --batch-size few": "--batch-size",
    f"{EVALUATE} --batch-size 1000001": "is not in the range 1<=x<=1000000",
    f"{EVALUATE} --limit -1": "--limit",
    f"{EVALUATE} --device abacus": "--device abacus cannot be used",
    f"{EVALUATE} --reader gpu": "'gpu' is not one of 'auto', 'ram', 'mapped', 'pread'",
    f"{EVALUATE} --task nope": "'nope' is no task",
    f"{EVALUATE} --task msvd-caption": "'msvd-caption' is no task",
    f"{EVALUATE} --task msrvtt-caption": "was trained to generate answers",
    f"{EVALUATE} --features store.zip": "ends in none of .zarr",
    f"{EVALUATE} --features gopher://host/store.zarr": "cannot be a feature store: specify a path",
    f"{EVALUATE} --beams 0": "--beams",
    f"{EVALUATE} --max-new-tokens -3": "--max-new-tokens",
    f"{EVALUATE} --temperature 2": "can only be set for sampling",
    f"{EVALUATE} --seed 3": "seed can only be set for sampling",
    f"{EVALUATE} --sample --seed -1": "-1 is not in the range 0<=x<=1000000000000",
    f"{EVALUATE} --sample --temperature 0": "temperature is 0.0",
    f"{EVALUATE} --sample --temperature nan": "temperature is nan, expected more than 0",
    f"{EVALUATE} --sample --top-p 1.5": "top_p is 1.5, expected at most 1",
    f"{EVALUATE} --sample --top-p 0": "top_p is 0.0, expected more than 0",
    f"{EVALUATE} --sample --top-p nan": "top_p is nan, expected more than 0",
    f"{EVALUATE} --sample --beams 2": "sampling needs num_beams 1",
    f"{EVALUATE} --answers top-0": "top-0 is an empty list",
    f"{EVALUATE} --answers top--3": "top--3 is an empty list",
    f"{EVALUATE} --answers top-9 --beams 3": "ranks the answers of a list",
    "nonsense": "No such command",
    "score": "Missing argument",
    "score predictions.jsonl --references right.jsonl": "Missing option",
    "score predictions.jsonl --references right.jsonl --metrics wer": "'wer' is no metric",
    "score absent.jsonl --references right.jsonl --metrics wer": "'wer' is no metric",
    "submit whole --format gqa": "Missing option",
    "submit whole --format coco --out answers.json": "'coco' is not one of 'vqa', 'nocaps', 'gqa'",
    "submit absent --format coco --out answers.json": "'coco' is not one of 'vqa', 'nocaps', 'gqa'",
    "submit whole --out answers.json": "no server of the task manifest is known",
    "submit whole --format nocaps --out answers.json": "is for captions, and manifest has",
    "report": "Missing argument",
    "report tiny --bogus": "No such option",
    "compare": "Missing argument",
    "compare tiny raw --split val": "one task and split",
    f"{INSTALL} gopher://host/corenlp.zip": "has an unknown protocol",
    "install-spice surplus": "unexpected extra argument",
}
"""Command -> words of its error: what can never be right, whatever the files hold."""

MISSING = {
    "--split val --run absent": "neither absent nor runs/absent has a run.json",
    "--split test --run absent": "made; runs has ",
    "--split val --runs nowhere": "there is no run in",
    "--split val --run damaged": "is not a run record",
    "--split val --run raw --quiet": "adapter.safetensors is missing",
    "--split val --run nobody --quiet": "nowhere",
    "--split val --run unrecorded": "recipe.toml is not a recipe",
    "--split val --run blocked --quiet": "nothing can be written to runs/blocked/eval/val",
    f"{EVALUATE} --features absent.zarr": "found nothing at absent.zarr",
    f"{EVALUATE} --data-root nowhere": "contains no manifest",
    f"{EVALUATE} --task vqa2": "was not found",
    f"{EVALUATE} --answers absent": "there is no file absent",
    f"{EVALUATE} --answers folder": "there is no file folder",
    f"{EVALUATE} --answers blank": "blank has no answer",
    f"{EVALUATE} --answers binary": "binary is not UTF-8",
    SCORE.replace("predictions", "absent"): "absent.jsonl cannot be read",
    SCORE.replace("right.jsonl", "folder"): "folder cannot be read",
    SCORE.replace("predictions", "broken"): "broken.jsonl: line 1: no JSON",
    SCORE.replace("predictions.jsonl", "binary"): "binary is not UTF-8",
    SCORE.replace("predictions", "right"): "line 1.prediction is missing",
    SCORE.replace("predictions", "deep"): "deep.jsonl: no JSON (lists or objects are nested",
    SCORE.replace("right", "long"): "long.jsonl: line 1: no JSON (an integer has too many",
    SCORE.replace("predictions", "half"): "half.jsonl: line 1 has U+D83D, half of a surrogate pair",
    SCORE.replace("right", "others"): "question 2 has no prediction",
    f"{SCORE} --out folder": "folder is a folder, expected a file",
    f"{SCORE} --out blank/scores": "nothing can be written to blank",
    SUBMIT.replace("whole", "absent"): "absent has no evaluation",
    SUBMIT.replace("whole", "runs/tiny"): "runs/tiny is a run, expected one of its evaluations: "
    "runs/tiny/eval/server, runs/tiny/eval/val",
    SUBMIT.replace("whole", "blank"): "blank has no evaluation",
    SUBMIT.replace("whole", "spoilt"): "the evaluation in spoilt cannot be read",
    SUBMIT.replace("whole", "cut"): "the first 7 of 100 questions",
    SUBMIT.replace("gqa", "vqa"): "the id 'q0' is not a number",
    f"{SUBMIT[:-12]} folder": "folder is a folder, expected a file",
    f"{SUBMIT[:-12]} blank/answers": "nothing can be written to blank",
    "report absent": "neither absent nor runs/absent has a run.json",
    "report tiny --split nope": "has no nope, it has val",
    "report blocked": "has not been evaluated yet",
    "compare absent": "neither absent nor runs/absent has a run.json",
    "compare damaged": "is not a run record",
    "report scribbled": "runs/scribbled/recipe.toml is not a recipe ('utf-8' codec can't decode",
    "compare scribbled": "runs/scribbled/recipe.toml is not a recipe (",
    "compare tiny/eval/val scribbled/eval/val": "runs/scribbled/recipe.toml is not a recipe (",
    "compare tiny --split nope": "not on nope",
    "compare tiny/eval/server": "tiny has no scores",
    "compare tiny --out folder": "folder is a folder, expected a file",
    "compare tiny --out blank/page": "nothing can be written to blank",
    f"{INSTALL} absent.zip": "absent.zip cannot be read",
    f"{INSTALL} folder": "folder cannot be read",
    f"{INSTALL} blank": "blank is not an archive",
}
"""Messages about files that are missing, damaged or in the way."""


def end(
    command: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> tuple[int, str]:
    """The exit code, and what was written to standard error."""
    monkeypatch.chdir(world)
    before = sorted(world.rglob("*.*"))
    code = call(monkeypatch, *command.split())
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(world.rglob("*.*")) == before
    return code, err


@pytest.mark.parametrize("command", WRONG)
def test_mistakes_on_the_command_line_give_exit_code_2(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    code, err = end(command, world, monkeypatch, capfd)
    assert code == 2
    assert WRONG[command] in " ".join(err.split())


@pytest.mark.parametrize("command", MISSING)
def test_mistakes_in_files_and_data_give_exit_code_1_and_one_line(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    code, err = end(command, world, monkeypatch, capfd)
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert MISSING[command] in err


@pytest.mark.parametrize("run", ["nobody", "unrecorded"])
def test_an_evaluation_that_cannot_start_leaves_no_folder(
    world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], run: str
) -> None:
    assert end(f"--split val --run {run} --quiet", world, monkeypatch, capfd)[0] == 1
    assert not (world / "runs" / run / "eval").exists()
