"""What does an engine cost, compared with processes that are started by hand?

    OMP_NUM_THREADS=1 python -m bench.engines --images 600 --images 1800

Two processes with --shard 0/2 and 1/2, and `--engine ray --engine-workers 2`, extract the same
images into new stores. The CPU time is that of all processes which the commands leave behind
them, Ray's own among them. Ray's workers get the priority of other processes. Each engine runs with
two numbers of images, so that what is paid once (loading, starting a cluster) and what is paid for
each image are told apart.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import timm
import typer
from safetensors.torch import save_file

from bench.support.cpu_time import cpu_seconds
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

ENCODER, ARCHITECTURE = "vit-ti16", "vit_tiny_patch16_224"

FILES = 100
"""Number of different images."""

OVERHEAD_LIMIT = 0.05
"""Target: CPU time of an image by Ray over that by --shard, less 1."""

COMMAND = "from epalm.extract.cli import main; main()"

SHARDS, RAY = "two processes, --shard i/2", "--engine ray, two encoders"


def commands(engine: str, options: Sequence[str]) -> list[list[str]]:
    """The commands of an engine, which run at the same time."""
    base = [sys.executable, "-c", COMMAND, *options]
    if engine == RAY:
        return [[*base, "--engine", "ray", "--engine-workers", "2"]]
    return [[*base, "--shard", f"{index}/2"] for index in range(2)]


def write_dataset(folder: Path, images: int, files: Sequence[Path]) -> Path:
    """A folder with images, which repeat some files, and their manifest."""
    folder.mkdir()
    names = [f"{row:06d}.jpg" for row in range(images)]
    for row, name in enumerate(names):
        (folder / name).hardlink_to(files[row % len(files)])
    lines = [json.dumps({"id": name, "media": name, "answers": ["a"]}) for name in names]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run_rounds(
    place: Path, numbers: Sequence[int], rounds: int
) -> Mapping[tuple[str, int], list[float]]:
    """CPU seconds of each engine and number of images, in each round."""
    weights = place / "weights.safetensors"
    save_file(timm.create_model(ARCHITECTURE, num_classes=0).state_dict(), weights)
    (place / "files").mkdir()
    files = [item.path for item in write_images(place / "files", FILES)]
    datasets = {number: write_dataset(place / f"{number}", number, files) for number in numbers}
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
            seconds = cpu_seconds(commands(engine, [*options, "--workers", "1"]))
            found[cases[index]].append(seconds)
            sys.stderr.write(f"{engine}: {number} images, {seconds:.1f} s\n")
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
) -> None:
    """Run both engines, and print the table."""
    numbers = images or [600, 1800]
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's name
    with scratch(folder) as place:
        found = run_rounds(place, numbers, rounds)
    Result("Engines of an extraction", table(found, numbers)).publish(json_file)


if __name__ == "__main__":
    typer.run(main)
