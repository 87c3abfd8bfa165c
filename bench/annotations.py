"""How much time and memory does it take to read annotation files of the published sizes?

    OMP_NUM_THREADS=1 python -m bench.annotations

Each reading runs in a new process, right before or after the reference: plain `json.load` of the
same files, with all results kept. The files were just written, so they are in the page cache.
"""

import gc
import json as plain_json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.support.annotation_files import WRITERS
from bench.support.peak_memory import max_resident_bytes, peak_memory_of, resident_bytes
from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    Variant,
    cpu_ratios,
    interleave,
    ratios,
)
from epalm.tasks.task_registry import load_media, load_task


@dataclass(frozen=True)
class Reading:
    """One call that is measured.

    Attributes:
        root: name of the data root in `WRITERS`.
        name: name of the dataset or the task.
        split: split of the task; empty for the list of media of a dataset.
        files: files that the call reads, relative to the root.
    """

    root: str
    name: str
    split: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.split or 'media'}" + " (VL-T5)" * (self.root == "vlt5")


VQA2 = "v2_OpenEnded_mscoco_{part}_questions.json", "v2_mscoco_{part}_annotations.json"
TRAIN, VAL = (tuple(name.format(part=f"{part}2014") for name in VQA2) for part in ("train", "val"))
COCO = "dataset_coco.json"
GQA = tuple(f"gqa/{split}_balanced_questions.json" for split in ("train", "val", "testdev"))
MSRVTT = tuple(f"annotation/msrvtt_vqa_{split}.json" for split in ("train", "val", "test"))

READINGS = (
    Reading("coco", "coco", "", (COCO,)),
    Reading("coco", "coco-caption", "train", (COCO,)),
    Reading("coco", "vqa2", "standard_train", TRAIN),
    Reading("coco", "vqa2", "karpathy_train", (COCO, *TRAIN, *VAL)),
    Reading("vlt5", "vqa2", "karpathy_train", ("vqa/karpathy_train.json",)),
    Reading("gqa", "gqa", "", GQA),
    Reading("gqa", "gqa", "train", GQA[:1]),
    Reading("msrvtt", "msrvtt", "", MSRVTT),
    Reading("msrvtt", "msrvtt-qa", "train", MSRVTT[:1]),
)


def load_json(root: str, files: Sequence[str]) -> dict[str, float]:
    """Measure `json.load` of the files."""
    return _measured(lambda: [_loaded(Path(root) / file) for file in files])


def read(root: str, name: str, split: str) -> dict[str, float]:
    """Measure reading the examples of a split, or the media of a dataset if `split` is empty."""
    folder = Path(root)
    if split:
        return _measured(lambda: load_task(name, folder).examples(split, folder))
    return _measured(lambda: load_media(name, folder).items)


def _loaded(file: Path) -> object:
    with file.open(encoding="utf-8") as stream:
        return plain_json.load(stream)


def _measured(call: Callable[[], Sequence[object]]) -> dict[str, float]:
    """Seconds, and bytes without the imports: peak, and in use at the end with the result."""
    before = resident_bytes()
    started, started_cpu = time.perf_counter(), time.process_time()
    returned = call()
    wall, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    gc.collect()
    most, kept = max_resident_bytes() - before, resident_bytes() - before
    return {"wall": wall, "cpu": cpu, "number": len(returned), "most": most, "kept": kept}


def compare_reading(reading: Reading, root: Path, rounds: int) -> list[Line]:
    """Result lines of one reading and its reference."""
    results: dict[str, list[dict[str, float]]] = defaultdict(list)

    def variant(what: str, *arguments: object) -> Variant:
        def run(_: int) -> Sample:
            measured = peak_memory_of(f"bench.annotations:{what}", str(root), *arguments).answer
            results[what].append(measured)
            return Sample(1, measured["wall"], measured["cpu"])

        return run

    plain = variant("load_json", reading.files)
    ours = variant("read", reading.name, reading.split)
    samples = interleave({"json": plain, "ours": ours}, rounds)

    def median(what: str, quantity: str) -> float:
        return float(np.median([measured[quantity] for measured in results[what]]))

    size = sum((root / file).stat().st_size for file in reading.files)
    pair = samples["ours"], samples["json"]
    return [
        Line(f"{reading}: files", size / 1e6, "MB"),
        Line(f"{reading}: records", median("read", "number"), "records"),
        Line(f"{reading}: json.load", median("load_json", "wall"), "s"),
        Line(f"{reading}: time", median("read", "wall"), "s", ratios(*pair), cpu_ratios(*pair)),
        Line(f"{reading}: json.load peak", median("load_json", "most") / 1e6, "MB"),
        Line(f"{reading}: peak", median("read", "most") / 1e6, "MB"),
        Line(f"{reading}: at the end", median("read", "kept") / 1e6, "MB"),
    ]


def main(
    share: Annotated[float, typer.Option(help="Fraction of the published sizes.")] = 1.0,
    rounds: Rounds = 3,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Write annotation files and compare reading them with `json.load`."""
    lines = []
    with scratch(folder) as place:
        for name, write in WRITERS.items():
            (place / name).mkdir()
            write(place / name, share)
            for reading in READINGS:
                if reading.root == name:
                    lines += compare_reading(reading, place / name, rounds)
    Result("Reading annotation files, compared with json.load", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
