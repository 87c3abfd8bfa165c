"""What does an engine cost, compared with processes that are started by hand?

    OMP_NUM_THREADS=1 python -m bench.engines --images 600 --images 1800

Two processes with --shard 0/2 and 1/2, and `--engine ray --engine-workers 2`, extract the same
images into new stores. The CPU time is that of all processes which the commands leave behind
them, Ray's own among them. Each engine runs with two numbers of images, so that what is paid once
(loading, starting a cluster) and what is paid for each image are told apart.
"""

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import timm
import typer
from safetensors.torch import save_file

from bench.support.encoding_variants import write_images
from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    at_most,
)
from epalm.errors import ModelError

ENCODER, ARCHITECTURE = "vit-ti16", "vit_tiny_patch16_224"

OVERHEAD_LIMIT = 0.05
"""Target: CPU time of an image by Ray over that by --shard, less 1."""

PR_SET_CHILD_SUBREAPER = 36
"""Option of prctl (linux/prctl.h): orphans among the descendants become children."""

SHARDS, RAY = "two processes, --shard i/2", "--engine ray, two encoders"


def commands(engine: str, options: Sequence[str]) -> list[list[str]]:
    """The commands of an engine, which run at the same time."""
    base = [sys.executable, "-m", "epalm.extract.cli", *options]
    if engine == RAY:
        return [[*base, "--engine", "ray", "--engine-workers", "2"]]
    return [[*base, "--shard", f"{index}/2"] for index in range(2)]


def cpu_seconds(lines: Sequence[Sequence[str]]) -> float:
    """CPU time of commands and of all their descendants, measured in a process of its own.

    Raises:
        ModelError: a command failed.
    """
    measured = [sys.executable, "-m", "bench.engines", "--measure", json.dumps(lines)]
    found = subprocess.run(measured, check=False, capture_output=True, text=True)
    if found.returncode:
        raise ModelError(f"an extraction failed: {found.stderr[-2000:]}")
    return float(found.stdout.splitlines()[-1])


def measure(lines: Sequence[Sequence[str]]) -> None:
    """Run commands, wait for every descendant, and print their CPU seconds."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    running = [subprocess.Popen(line, stdout=subprocess.DEVNULL) for line in lines]
    failed = [process.returncode for process in running if process.wait()]
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stdout.write(f"{used.ru_utime + used.ru_stime}\n")
    sys.exit(max(failed, default=0))


def write_dataset(folder: Path, images: int) -> Path:
    """A folder with images and their manifest."""
    folder.mkdir()
    items = write_images(folder, images)
    lines = [json.dumps({"id": one.key, "media": one.name, "answers": ["a"]}) for one in items]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run_rounds(
    place: Path, numbers: Sequence[int], rounds: int
) -> Mapping[tuple[str, int], list[float]]:
    """CPU seconds of each engine and number of images, in each round."""
    weights = place / "weights.safetensors"
    save_file(timm.create_model(ARCHITECTURE, num_classes=0).state_dict(), weights)
    datasets = {number: write_dataset(place / f"images{number}", number) for number in numbers}
    random = np.random.default_rng(0)
    cases = [(engine, number) for number in numbers for engine in (SHARDS, RAY)]
    found: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for index in random.permutation(len(cases)).tolist():
            engine, number = cases[index]
            out = place / "store.zarr"
            shutil.rmtree(out, ignore_errors=True)
            options = ["--encoder", ENCODER, "--weights", str(weights), "--quiet"]
            options += ["--dataset", str(datasets[number]), "--out", str(out), "--device", "cpu"]
            found[cases[index]].append(cpu_seconds(commands(engine, [*options, "--workers", "1"])))
    return found


def table(found: Mapping[tuple[str, int], list[float]], numbers: Sequence[int]) -> list[Line]:
    """Cost of an image and cost of a run, by engine, and the overhead of Ray."""
    few, many = min(numbers), max(numbers)
    lines, slopes = [], {}
    for engine in (SHARDS, RAY):
        small, large = (float(np.median(found[engine, number])) for number in (few, many))
        slopes[engine] = (large - small) / (many - few)
        lines += [
            Line(f"{engine}: CPU time of an image", 1000 * slopes[engine], "ms"),
            Line(f"{engine}: CPU time of a run without images", small - few * slopes[engine], "s"),
            Line(f"{engine}: CPU time of {many} images", large, "s"),
        ]
    overhead = slopes[RAY] / slopes[SHARDS] - 1
    lines.append(at_most("overhead of Ray for an image", overhead, "", limit=OVERHEAD_LIMIT))
    return lines


def main(
    images: Annotated[
        list[int] | None, typer.Option(min=1, help="Numbers of images; repeatable.")
    ] = None,
    rounds: Rounds = 1,
    folder: Folder = None,
    json_file: JsonFile = None,
    measured: Annotated[str, typer.Option("--measure", hidden=True)] = "",
) -> None:
    """Run both engines, and print the table."""
    if measured:
        measure(json.loads(measured))
    numbers = images or [600, 1800]
    with scratch(folder) as place:
        found = run_rounds(place, numbers, rounds)
    Result("Engines of an extraction", table(found, numbers)).publish(json_file)


if __name__ == "__main__":
    typer.run(main)
