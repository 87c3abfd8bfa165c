"""How much faster is a training step than the released code's, and where does that come from?

    OMP_NUM_THREADS=1 python -m bench.training --shape 125m --precision bf16 --batch-size 32

All variants of a round run the same texts through forward, backward and AdamW. There are two
references. "official, cached" is the official training step on cached features
(`bench.support.official_step`). "official, online" adds what the official implementation does for
every image in every step: decode, augment and encode.
On a CPU ratios are those of processor time, on a GPU of the clock.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from bench.support.encoding_variants import make_photos
from bench.support.official_step import OnlineEncoder
from bench.support.scratch_stores import scratch
from bench.support.step_variants import (
    TOGETHER,
    Stepper,
    Way,
    multiply_variant,
    photo_variant,
    ways,
)
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    Samples,
    Variant,
    compare,
    cpu_ratios,
    interleave,
    ratios,
)
from bench.support.vqa_workload import PROMPT, SHAPES, Questions, random_lm
from epalm.errors import UsageError
from epalm.model.engine.language_model import PRECISIONS

PAIRS, EPOCHS = 605_102, 8
"""Questions with answers of VQA v2's Karpathy training split, and the published epochs."""

MULTIPLY = "matrix product"
PHOTOS = "pictures: decode, augment, encode"

LONGEST_TEXT = 18
"""Tokens of the longest of 32 texts, to which the released code pads them."""

_CACHED, _ONLINE = "full: official, cached", "full: official, online"
_OURS = "full: ours"
_KEPT = "lin: ours, buckets, texts kept"
_LIN_ONLINE = "lin: official, online"
_GROUPED = f"full: ours, buckets, {TOGETHER} a picture"

TARGETS = {
    ("125m", "bf16", 32): {
        (_CACHED, _OURS): 1.5,
        (_ONLINE, _OURS): 4.5,
        (_ONLINE, f"{_GROUPED}, answers"): 7,
        (_LIN_ONLINE, _KEPT): 6,
    },
    ("125m", "fp32", 16): {(_CACHED, _OURS): 1.5, (_ONLINE, _OURS): 5},
    ("32x1024", "bf16", 16): {(_LIN_ONLINE, _KEPT): 4.5},
    ("32x1024", "bf16", 48): {(_CACHED, _OURS): 2, (_CACHED, _GROUPED): 2.5},
}
"""(shape, precision, batch size) -> (reference, way) -> the least ratio on one CPU thread."""


def main(
    shape: Annotated[str, typer.Option(help=", ".join(SHAPES))] = "125m",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    steps: Annotated[int, typer.Option(help="Batches per round.", min=1)] = 2,
    only: Annotated[
        list[str] | None, typer.Option(help="Ways by name, with * for any text; default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    words: Annotated[int, typer.Option(help="Size of the vocabulary.")] = 50_272,
    encoder: Annotated[str, typer.Option(help="Of the pictures; empty: without them.")] = "vit-b16",
    rounds: Rounds = 7,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Take training steps."""
    lm = random_lm(SHAPES[shape], precision, words=words, device=device)
    questions = Questions(words, batch_size, steps, device)
    texts = [text for number in range(rounds) for text in questions.texts(number)]
    dtype = PRECISIONS[precision]
    rows = batch_size * (1 + PROMPT + LONGEST_TEXT)
    with scratch(folder) as place:
        made = chosen(ways(lm, texts, place / "texts"), only or ["*"])
        stepper = Stepper(questions)
        variants: dict[str, Variant] = {way.name: stepper.variant(way) for way in made}
        variants[MULTIPLY] = multiply_variant(rows, SHAPES[shape], dtype, device)
        if encoder:
            items = make_photos(place, batch_size)
            variants[PHOTOS] = photo_variant(OnlineEncoder(dtype, device, encoder), items, steps)
        flops = {way.name: stepper.flops(way) for way in made}  # and warms up
        samples = interleave(variants, rounds)
    targets = TARGETS.get((shape, precision, batch_size), {}) if device == "cpu" else {}
    lines = step_lines(samples, made, targets, device) + reached_lines(samples, flops, device)
    title = f"Training steps, {shape}, {precision}, {device}, batches of {batch_size}"
    Result(title, lines).publish(json)


def chosen(made: Sequence[Way], patterns: Sequence[str]) -> list[Way]:
    """The ways asked for, and the references that they need.

    Raises:
        UsageError: a pattern stands for no way.
    """
    names = [way.name for way in made]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UsageError(f"--only {pattern!r} is none of: {'; '.join(names)}")
    found = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    asked = [way for way in made if way.name in found]
    references = {way.reference for way in asked}
    return [way for way in made if way in asked or way.name in references]


def joined(samples: Samples, first: str, second: str) -> list[Sample]:
    """One after the other, round by round."""
    pairs = zip(samples[first], samples[second], strict=True)
    return [Sample(one.work, one.wall + two.wall, one.cpu + two.cpu) for one, two in pairs]


def step_lines(
    samples: Samples, made: Sequence[Way], targets: Mapping[tuple[str, str], float], device: str
) -> list[Line]:
    """Rates against the released step, first on stored vectors, then with its pictures.

    Args:
        samples: of all ways, and of the pictures if they were measured.
        made: the ways.
        targets: (reference, way) -> the least ratio.
        device: decides which ratio counts.
    """
    lines = []
    for cached in dict.fromkeys(way.reference for way in made):
        mine = {way.name: samples[way.name] for way in made if way.reference == cached}
        groups = {cached: mine}
        if PHOTOS in samples:
            online = cached.replace("cached", "online")
            rest = {name: found for name, found in mine.items() if name != cached}
            groups[online] = {online: joined(samples, cached, PHOTOS)} | rest
        for reference, group in groups.items():
            for line in compare(group, reference=reference, unit="samples/s", targets={}):
                counted = line.ratio if device.startswith("cuda") else line.cpu_ratio
                least = targets.get((reference, line.what))
                if least and counted:
                    met = counted.median >= least
                    line = replace(line, target=f"ratio >= {least:g}", met=met)
                lines.append(line)
    return lines


def reached_lines(samples: Samples, flops: Mapping[str, int], device: str) -> list[Line]:
    """How much of the plain product's speed each way reaches; on a GPU also the hours it takes."""
    on_gpu = device.startswith("cuda")
    divide = ratios if on_gpu else cpu_ratios
    work = {
        name: [replace(one, work=each * one.work) for one in samples[name]]
        for name, each in ({MULTIPLY: 1} | dict(flops)).items()
    }
    lines = [
        Line(
            f"{name}: reached",
            float(np.median([one.work / (one.wall if on_gpu else one.cpu) for one in found])) / 1e9,
            "GFLOP/s",
            None if name == MULTIPLY else divide(found, work[MULTIPLY]),
        )
        for name, found in work.items()
    ]
    return lines + ([_hours(name, samples[name]) for name in flops] if on_gpu else [])


def _hours(name: str, samples: list[Sample]) -> Line:
    rate = float(np.median([one.work / one.wall for one in samples]))
    return Line(f"{name}: {PAIRS:,} x {EPOCHS}", PAIRS * EPOCHS / rate / 3600, "hours")


if __name__ == "__main__":
    typer.run(main)
