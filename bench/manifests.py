"""What does a manifest of a million lines cost before the first image is encoded?

    OMP_NUM_THREADS=1 python -m bench.manifests

Plain `json.loads` of the same lines is the yardstick of reading. The first batch is that of
`epalm-extract` with an encoder that costs nothing, counted from the start of the process: imports,
reading, checking the names, creating the store. Each runs in a process of its own; seconds are of
the processor.
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
from bench.support.peak_memory import largest_resident, peak_of
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
"""Images that all lines are about in the first manifest; in the second each has its own."""

MOST_SECONDS = 15.0
"""To the first batch, with a million lines."""

MOST_TIMES = 3.0
"""Seconds of reading, of `json.loads`."""

READINGS = ("load_json", "media", "examples", "first_batch")


class FirstBatch(Exception):
    """The first batch has reached the encoder."""


class StoppingEncoder(FreeEncoder):
    """Ends the extraction at its first batch."""

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        """Take the arguments of an encoder's factory."""
        del settings
        super().__init__()
        self.name = name

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Nothing: raises FirstBatch."""
        del batch, layers, positions
        raise FirstBatch


def write_manifest(folder: Path, lines: int, images: int) -> None:
    """A manifest of so many lines about so many images, of which the first one exists."""
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
    """Every line as `json.loads` gives it, none of them kept."""
    before, started = largest_resident(), time.process_time()
    with (Path(folder) / "train.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            plain_json.loads(line)
    return _measured(started, before)


def media(folder: str) -> dict[str, float]:
    """The images, checked."""
    before, started = largest_resident(), time.process_time()
    found = load_media(folder)
    return _measured(started, before) | {"number": len(found.items)}


def examples(folder: str) -> dict[str, float]:
    """The examples, checked and kept."""
    before, started = largest_resident(), time.process_time()
    root = Path(folder)
    found = load_task("manifest", root).examples("train", root)
    return _measured(started, before) | {"number": len(found)}


def first_batch(folder: str) -> dict[str, float]:
    """All that `epalm-extract` does before its encoder gets the first batch."""
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
    return {"cpu": time.process_time() - started, "nbytes": largest_resident() - before}


def compare_readings(folder: Path, rounds: int, *, what: str) -> list[Line]:
    """The lines about one manifest."""
    memory: dict[str, float] = {}

    def variant(name: str, _: int) -> Sample:
        found = peak_of(f"bench.manifests:{name}", str(folder)).answer
        memory[name] = found["nbytes"] / 1e6
        return Sample(1, found["cpu"], found["cpu"])

    variants = {name: (lambda turn, name=name: variant(name, turn)) for name in READINGS}
    samples = interleave(variants, rounds)
    seconds = {name: np.array([one.cpu for one in samples[name]]) for name in READINGS}
    median = {name: float(np.median(each)) for name, each in seconds.items()}
    times = float(np.median(seconds["media"] / seconds["load_json"]))
    return [
        Line(f"{what}: json.loads", median["load_json"], "s"),
        Line(f"{what}: media", median["media"], "s"),
        at_most(f"{what}: media, of json.loads", times, "times", limit=MOST_TIMES),
        Line(f"{what}: media, memory", memory["media"], "MB"),
        Line(f"{what}: examples", median["examples"], "s"),
        Line(f"{what}: examples, memory", memory["examples"], "MB"),
        at_most(f"{what}: first batch", median["first_batch"], "s", limit=MOST_SECONDS),
    ]


def main(
    lines: Annotated[int, typer.Option(min=1, help="Of each manifest.")] = 1_000_000,
    rounds: Rounds = 3,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Write the manifests, then read them."""
    found = []
    with scratch(folder) as place:
        for what, images in ((f"{FEW:,} images", FEW), ("an image a line", lines)):
            at = place / str(images)
            write_manifest(at, lines, images)
            found += compare_readings(at, rounds, what=what)
    Result(f"Reading manifests of {lines:,} lines", found).publish(json)


if __name__ == "__main__":
    typer.run(main)
