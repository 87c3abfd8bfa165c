"""How long do commands take that only print help or report a mistake?

    python -m bench.startup

Times are CPU seconds of a new process, user and system together. Each is the minimum over the
rounds, since other programs can only make them longer.
"""

import json as plain_json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import Folder, JsonFile, Line, Result, Rounds, at_most
from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.method.model_settings import Decoding, ModelSettings

MAX_SECONDS = 0.6

HEAVY = (
    *("torch", "torchvision", "torchaudio", "transformers", "timm"),
    *("zarr", "h5py", "matplotlib", "pydantic"),
)
"""Libraries with long import times."""

MODULES = {
    "epalm-extract": "epalm.extract.cli",
    "epalm-train": "epalm.train.cli",
    "epalm-eval": "epalm.evaluate.cli",
    "epalm-demo": "epalm.demo.cli",
}

HELP = (
    *MODULES,
    *(f"epalm-extract {name}" for name in ("verify", "status", "repair", "inspect", "convert")),
    "epalm-extract retry-failed",
    "epalm-train import",
    *(f"epalm-eval {name}" for name in ("report", "compare", "score", "submit", "install-spice")),
)
"""Commands whose help is measured."""

ENCODE = "epalm-extract --encoder vit-b16 --dataset data"
TRAIN = "epalm-train --features media.zarr"
EVALUATE = "epalm-eval --split val"

MISTAKES = {
    "epalm-extract": "--encoder and --dataset must be given",
    "epalm-extract --encoder nope --dataset data": "'nope' is no encoder",
    "epalm-extract --encoder vit-b16 --dataset nope": "'nope' is no dataset",
    "epalm-extract --encoder vit-b16 --dataset nope.jsonl": "no file",
    "epalm-extract --encoder vit-b16 --dataset coco": "dataset_coco.json was not found",
    "epalm-extract --encoder vit-b16 --dataset empty": "none of the first 1 media files exists",
    f"{ENCODE} --nope": "No such option",
    f"{ENCODE} --precision nope": "'nope'",
    f"{ENCODE} --device gpu": "--device gpu cannot be used",
    f"{ENCODE} --weights nope.safetensors": "no such file",
    f"{ENCODE} --weights data/val.jsonl": "it is JSON; expected weights",
    f"{ENCODE} --frames 8": "options of videos only",
    f"{ENCODE} --frames-pool mean": "options of videos only",
    f"{ENCODE} --tokens pool:0x2": "expected cls, mean, map, all",
    f"{ENCODE} --tokens pool:2x2x2": "only videos have three axes",
    "epalm-extract --encoder hf: --dataset data": "hf: needs a name after it",
    "epalm-extract --encoder timm: --dataset data": "timm: needs a name after it",
    "epalm-extract --encoder hf:no/such/folder --dataset data": "is not an id on the hub",
    "epalm-extract --encoder hf:data --dataset data --weights data": "already specifies",
    f"{ENCODE} --source-layers nope": "expected all, last-6",
    f"{ENCODE} --out nope.txt": "ends in none of",
    f"{ENCODE} --shard 3/2": "3/2",
    "epalm-extract verify nope.zarr": "found nothing at nope.zarr",
    "epalm-extract status nope.zarr": "found nothing at nope.zarr",
    "epalm-extract repair nope.h5": "found nothing at nope.h5",
    "epalm-extract inspect nope.h5": "found nothing at nope.h5",
    "epalm-extract convert nope.zarr --out other.h5": "found nothing at nope.zarr",
    "epalm-extract retry-failed nope.zarr": "found nothing at nope.zarr",
    "epalm-train": "--features must be given",
    "epalm-train --features nope.zarr": "found nothing at nope.zarr",
    f"{TRAIN} --task nope": "'nope' is no task",
    f"{TRAIN} --recipe nope": "there is no recipe 'nope'",
    f"{TRAIN} --set nope=1": "nope",
    f"{TRAIN} --set epochs=-1": "epochs is -1",
    f"{TRAIN} --variant nope": "variant 'nope' is unknown",
    f"{TRAIN} --precision nope": "'nope'",
    f"{TRAIN} --device gpu": "--device gpu cannot be used",
    f"{TRAIN} --train-split nope": "no split 'nope'",
    f"{TRAIN} --val-split nope": "no split 'nope'",
    f"{TRAIN} --inject abc": "inject is 'abc'",
    f"{TRAIN} --lm no_such_folder": "'no_such_folder' is not a hub id",
    f"{TRAIN} --lm data": "expected config.json in the folder",
    f"{TRAIN} --lm data/val.jsonl": "is JSON; expected a folder",
    f"{TRAIN} --lm lm": "lm has no tokenizer (its folder has config.json)",
    f"{TRAIN} --variant full --text-states states": "trains nothing below the injection",
    f"{TRAIN} --shard-weights": "needs several processes, found one",
    f"{TRAIN} --source-layers 7": "there is no block 7",
    "epalm-train import nope.pth --features media.zarr --lm opt": "nope.pth is not there",
    "epalm-eval": "--split must be given",
    "epalm-eval --split nope": "no split 'nope'",
    f"{EVALUATE} --run nope": "has a run.json",
    f"{EVALUATE} --features nope.zarr": "found nothing at nope.zarr",
    f"{EVALUATE} --task nope": "'nope' is no task",
    f"{EVALUATE} --device gpu": "--device gpu cannot be used",
    f"{EVALUATE} --temperature 0.5": "can only be set for sampling",
    f"{EVALUATE} --answers nope.txt": "there is no file nope.txt",
    "epalm-eval report nope": "has a run.json",
    "epalm-eval compare nope": "has a run.json",
    "epalm-eval score nope.jsonl --references nope.jsonl --metrics nope": "'nope' is no metric",
    "epalm-eval submit nope --out out.json": "nope",
    "epalm-demo --modality nope": "'nope'",
}
"""Command line with a mistake, run in the folder of `make_scratch_files` -> part of its message."""

_CHILD = """
import importlib, json, os, sys

def ending(command, module, arguments):
    sys.argv = [command, *arguments]
    code = 0
    try:
        importlib.import_module(module).main()
    except SystemExit as end:
        code = end.code
    return code or 0

heavy, calls = json.loads(sys.argv[1])
before = set()
for command, module, arguments in calls:
    code = ending(command, module, arguments)
    sys.stdout.flush(), sys.stderr.flush()
    imported = [name for name in heavy if name in sys.modules and name not in before]
    before.update(imported)
    os.write(3, (json.dumps([code, imported]) + "\\n").encode())
"""


@dataclass(frozen=True)
class Ending:
    """How a command line ended.

    Attributes:
        code: exit code.
        heavy: libraries of `HEAVY` that it was the first in its process to import.
    """

    code: int
    heavy: tuple[str, ...]


def make_scratch_files(folder: Path) -> None:
    """Write a manifest, a store and a run, as far as commands read them without torch."""
    for name in ("data", "empty"):
        (folder / name).mkdir()
    (folder / "data" / "a.png").write_bytes(b"")
    (folder / "lm").mkdir()
    (folder / "lm" / "config.json").write_text("{}")
    example = {"id": "q", "media": "a.png", "prompt": "what is it?", "answers": ["a lamp"]}
    for split in ("train", "val"):
        line = plain_json.dumps(example) + "\n"
        (folder / "data" / f"{split}.jsonl").write_text(line)
        (folder / "empty" / f"{split}.jsonl").write_text(line)
    spec = StoreSpec(
        dataset="data",
        encoder="vit-b16",
        fingerprint={"preprocessing.name": "official"},
        layers=(0, 1),
        width=8,
        count=1,
        tasks=("manifest",),
        data_root=str(folder / "data"),
    )
    store = create_store(folder / "media.zarr", spec, ["a.png"])
    store.write_shard(0, np.zeros((1, *spec.row_shape), np.float16), {})
    store.finish()
    settings = ModelSettings(
        lm="opt",
        precision="fp32",
        variant="full",
        encoder_width=8,
        cached=2,
        prompt_length=2,
        inject="1:3",
        tail="causal",
        lm_dropout=0.0,
        template="{prompt} {answer}",
        supervise="answer",
    )
    run = folder / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "adapter.safetensors").write_bytes(b"")
    RunRecord(
        name="tiny",
        task="manifest",
        recipe="small",
        model=settings,
        decoding=Decoding(),
        features=str(folder / "media.zarr"),
        store=spec.comparable(),
        data_root=str(folder / "data"),
        seed=0,
        blind=False,
        lm_digest="",
        trained=1,
        frozen=1,
    ).save(run)


def endings(lines: Sequence[str], folder: Path) -> tuple[list[Ending], str]:
    """Run command lines one after the other in one new process, in `folder`.

    Returns:
        How each ended, and everything they printed.
    """
    calls = [[*shlex.split(line)] for line in lines]
    named = [[call[0], MODULES[call[0]], call[1:]] for call in calls]
    with (folder / "endings").open("w+b") as file:
        script = f"import os; os.dup2({file.fileno()}, 3)\n{_CHILD}"
        done = subprocess.run(
            [sys.executable, "-c", script, plain_json.dumps([HEAVY, named])],
            cwd=folder,
            pass_fds=[file.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        file.seek(0)
        results = [plain_json.loads(line) for line in file]
    return [Ending(code, tuple(heavy)) for code, heavy in results], done.stdout


def cpu_seconds(line: str, folder: Path) -> float:
    """Processor time of a command line in a process of its own."""
    command, *arguments = shlex.split(line)
    script = f"from {MODULES[command]} import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_utime + used.ru_stime


def main(
    rounds: Rounds = 5,
    only: Annotated[str, typer.Option(help="Measure only command lines with this text.")] = "",
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Measure command lines that end before any work begins."""
    every = [f"{command} --help" for command in HELP] + list(MISTAKES)
    with scratch(folder) as place:
        make_scratch_files(place)
        lines: list[Line] = []
        for line in every:
            if only in line:
                seconds = min(cpu_seconds(line, place) for _ in range(rounds))
                lines.append(at_most(line, seconds, "CPU s", limit=MAX_SECONDS))
    Result("Command lines that end before any work begins", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
