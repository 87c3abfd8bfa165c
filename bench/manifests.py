"""How long does a manifest of a million lines take before the first image is encoded?

    OMP_NUM_THREADS=1 python -m bench.manifests

The reference is plain `json.loads` of the same lines. The time to the first batch is that of
`epalm-extract` with an encoder that takes no time, from the start of the process: imports, reading
the manifest, checking the file names, creating the store. Each measurement runs in its own process;
times are CPU seconds.
"""

import json as plain_json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from torch import Tensor

from bench.extraction_memory import FreeEncoder
from bench.support.peak_memory import max_resident_bytes, peak_memory_of
from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    at_most,
    interleave,
)
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.plugins import TypedName
from epalm.tasks.task_registry import load_media, load_task

FEW = 1_000
"""Number of images in the first manifest; the second has one image per line."""

MAX_SECONDS = 15.0
"""Limit of the time to the first batch with a million lines."""

MAX_RATIO = 3.0
"""Limit of the time to read a manifest, relative to `json.loads`."""

READINGS = ("load_json", "media", "examples", "first_batch")


class FirstBatch(Exception):
    """The first batch has reached the encoder."""


class StoppingEncoder(FreeEncoder):
    """An encoder that stops the extraction at its first batch."""

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        """Accept the arguments of an encoder factory."""
        del settings
        super().__init__()
        self.name = name

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Raise FirstBatch."""
        del batch, layers, positions
        raise FirstBatch


def write_manifest(folder: Path, lines: int, images: int) -> None:
    """Write a manifest with this many lines and images; only the first image file exists."""
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "0000000.jpg").touch()
    with (folder / "train.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(lines):
            line = {
                "id": f"q{number}",
                "media": f"images/{number % images:07d}.jpg",
                "prompt": f"what is on the desk of room {number % 977}?",
                "answers": ["lamp", "a cup"],
            }
            stream.write(plain_json.dumps(line) + "\n")


def load_json(folder: str) -> dict[str, float]:
    """Measure `json.loads` of every line, without keeping the results."""
    before, started = max_resident_bytes(), time.process_time()
    with (Path(folder) / "train.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            plain_json.loads(line)
    return _measured(started, before)


def media(folder: str) -> dict[str, float]:
    """Measure reading the list of images."""
    before, started = max_resident_bytes(), time.process_time()
    dataset = load_media(folder)
    return _measured(started, before) | {"number": len(dataset.items)}


def examples(folder: str) -> dict[str, float]:
    """Measure reading the examples."""
    before, started = max_resident_bytes(), time.process_time()
    root = Path(folder)
    train = load_task("manifest", root).examples("train", root)
    return _measured(started, before) | {"number": len(train)}


def first_batch(folder: str) -> dict[str, float]:
    """Measure `epalm-extract` up to the first batch that its encoder gets."""
    from epalm.cache.create_store import create_store
    from epalm.extract.planning.extract_inputs import read_inputs
    from epalm.extract.planning.extract_options import ExtractOptions
    from epalm.extract.planning.extraction_plan import make_plan
    from epalm.extract.run_extraction import extract

    encoder = TypedName("bench.manifests:StoppingEncoder")
    out = Path(folder) / f"{time.time_ns()}.zarr"
    plan = make_plan(
        read_inputs(
            ExtractOptions(
                encoder=encoder,
                dataset=TypedName(folder),
                out=str(out),
                device="cpu",
                workers=0,
                quiet=True,
            )
        )
    )
    store = create_store(plan.out, plan.spec, plan.keys)
    try:
        extract(plan.encoder, plan.items, store, options=plan.run_options, root=plan.root)
    except FirstBatch:
        return _measured(0.0, 0)
    raise RuntimeError("the encoder was never called")


def _measured(started: float, before: int) -> dict[str, float]:
    return {"cpu": time.process_time() - started, "nbytes": max_resident_bytes() - before}


def compare_readings(folder: Path, rounds: int, *, what: str) -> list[Line]:
    """Result lines of one manifest."""
    memory: dict[str, float] = {}

    def variant(name: str, _: int) -> Sample:
        measured = peak_memory_of(f"bench.manifests:{name}", str(folder)).answer
        memory[name] = measured["nbytes"] / 1e6
        return Sample(1, measured["cpu"], measured["cpu"])

    variants = {name: (lambda turn, name=name: variant(name, turn)) for name in READINGS}
    samples = interleave(variants, rounds)
    seconds = {name: np.array([sample.cpu for sample in samples[name]]) for name in READINGS}
    median = {name: float(np.median(each)) for name, each in seconds.items()}
    times = float(np.median(seconds["media"] / seconds["load_json"]))
    return [
        Line(f"{what}: json.loads", median["load_json"], "s"),
        Line(f"{what}: media", median["media"], "s"),
        at_most(f"{what}: media, of json.loads", times, "times", limit=MAX_RATIO),
        Line(f"{what}: media, memory", memory["media"], "MB"),
        Line(f"{what}: examples", median["examples"], "s"),
        Line(f"{what}: examples, memory", memory["examples"], "MB"),
        at_most(f"{what}: first batch", median["first_batch"], "s", limit=MAX_SECONDS),
    ]


def main(
    lines: Annotated[int, typer.Option(min=1, help="Lines per manifest.")] = 1_000_000,
    rounds: Rounds = 3,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Write two manifests and measure reading them."""
    results = []
    with scratch(folder) as place:
        for what, images in ((f"{FEW:,} images", FEW), ("one image per line", lines)):
            at = place / str(images)
            write_manifest(at, lines, images)
            results += compare_readings(at, rounds, what=what)
    Result(f"Reading manifests of {lines:,} lines", results).publish(json)


if __name__ == "__main__":
    typer.run(main)
