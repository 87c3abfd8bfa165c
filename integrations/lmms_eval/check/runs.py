"""Features, two small runs, and their evaluation by epalm and by lmms-eval."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_data import CHOICES

import epalm
import epalm.demo

DEMO = Path(epalm.demo.__file__).parent
"""Folder of the models and recipes that come with epalm."""

STORES = ("coco", "gqa", "nocaps", "flickr30k")

MAX_TOKENS = {"questions": 16, "captions": 64}
"""Run -> `max_new_tokens` of the tasks of lmms-eval that it is evaluated on."""


@dataclass(frozen=True)
class Result:
    """A task evaluated by one of the programs.

    Attributes:
        scores: name of each score -> its value.
        answers: the answers in the order of the task's file.
    """

    scores: dict[str, float]
    answers: list[str]


def train_runs(root: Path) -> None:
    """Extract the features of the four datasets, and train the two runs on COCO."""
    for name in STORES:
        epalm.extract(
            "epalm.demo.encoder:micro_vit",
            name,
            data_root=root / "data",
            out=root / "cache" / f"{name}.zarr",
            precision="fp32",
            workers=0,
            device="cpu",
            quiet=True,
        )
    common = {
        "data_root": root / "data",
        "lm": DEMO / "weights/opt-micro",
        "out": root / "runs",
        "device": "cpu",
        "fresh": True,
        "quiet": True,
    }
    store = root / "cache/coco.zarr"
    recipe = DEMO / "recipes/scenes.toml"
    epalm.train(store, recipe=str(recipe), name="questions", **common)
    recipe = DEMO / "recipes/captions.toml"
    given = {"task": "coco-caption", "set": {"epochs": 2}, "name": "captions"}
    epalm.train(store, recipe=str(recipe), **given, **common)


def evaluate(
    root: Path,
    run: str,
    task: str,
    split: str,
    store: str,
    *,
    data: str = "data",
    answers: str = "",
) -> Result:
    """Scores and answers of `epalm-eval` with the decoding settings of lmms-eval's tasks."""
    decoding = {} if answers else {"beams": 1, "max_new_tokens": MAX_TOKENS[run]}
    result = epalm.evaluate(
        root / "runs" / run,
        split,
        task=task,
        features=[str(root / "cache" / f"{store}.zarr")],
        data_root=root / data,
        answers=answers,
        device="cpu",
        quiet=True,
        **decoding,
    )
    scores = {name: score.value for name, score in result.scores.items()}
    return Result(scores, [one.prediction for one in result.predictions])


def lmms_eval(
    root: Path, run: str, tasks: list[str], *model_args: str, include: Path
) -> dict[str, Result]:
    """Scores and answers of `lmms-eval` for each task; finished ones are read.

    Raises:
        SystemExit: it failed; with the end of its messages.
    """
    out = root / "lmms-eval" / "-".join([run, *(text.replace("=", "-") for text in model_args)])
    if not list(out.glob("runs__*/*_results.json")):
        arguments = ["--model_args", ",".join([f"pretrained=runs/{run}", *model_args])]
        arguments += ["--tasks", ",".join(tasks), "--include_path", str(include)]
        arguments += ["--batch_size", "32", "--device", "cpu"]
        arguments += ["--log_samples", "--output_path", str(out)]
        messages = _lmms_eval(root, "eval", "--model", "epalm", *arguments)
        if not list(out.glob("runs__*/*_results.json")):  # its exit code is 0 after errors, too
            raise SystemExit(f"lmms-eval failed:\n{messages[-6000:]}")
    (file,) = out.glob("runs__*/*_results.json")
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    return {task: _result(results[task], file, task) for task in tasks}


def _result(result: dict[str, Any], file: Path, task: str) -> Result:
    scores = {
        name.removesuffix(",none"): value
        for name, value in result.items()
        if isinstance(value, float) and "stderr" not in name
    }
    (samples,) = file.parent.glob(f"*_samples_{task}.jsonl")
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    lines.sort(key=lambda line: int(line["doc_id"]))
    return Result(scores, [_answer(line["filtered_resps"]) for line in lines])


def _answer(response: object) -> str:
    """A generated text, or the choice of the smallest loss."""
    if not isinstance(response, list):
        return str(response)
    losses = [float(loss) for loss, _ in response]
    return CHOICES[losses.index(min(losses))]


def _lmms_eval(root: Path, *arguments: str) -> str:
    """Run lmms-eval in `root`, where it finds its datasets, without the hub; its messages."""
    print("+ lmms-eval", *arguments, flush=True)  # noqa: T201 - a script
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(root / "hub")}
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lmms-eval"), *arguments],
        cwd=root,
        env={"OMP_NUM_THREADS": "1"} | os.environ | offline,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return result.stdout
