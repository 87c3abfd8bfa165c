"""How much faster is a training step than in the official implementation, and why?

    OMP_NUM_THREADS=1 python -m bench.training --shape 125m --precision bf16 --batch-size 32

All variants of a round run the same texts through forward, backward and AdamW. There are two
references. "official, cached" is the official training step on cached features
(`bench.support.official_step`). "official, online" adds what the official implementation does for
every image in every step: decode, augment and encode.
Ratios are of CPU time on a CPU, and of wall-clock time on a GPU.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from bench.support.encoding_variants import write_images
from bench.support.official_step import OnlineEncoder
from bench.support.scratch_stores import scratch
from bench.support.step_variants import (
    QUESTIONS_PER_IMAGE,
    StepMethod,
    StepTimer,
    image_variant,
    multiply_variant,
    step_methods,
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
"""Examples of VQA v2's Karpathy training split, and the published number of epochs."""

MULTIPLY = "matrix product"
IMAGES = "images: decode, augment, encode"

LONGEST_TEXT = 18
"""Tokens of the longest of 32 texts, to which the official implementation pads them."""

_CACHED, _ONLINE = "full: official, cached", "full: official, online"
_OURS = "full: ours"
_CACHED_TEXTS = "lin: ours, buckets, cached text states"
_LIN_ONLINE = "lin: official, online"
_GROUPED = f"full: ours, buckets, {QUESTIONS_PER_IMAGE} per image"

TARGETS = {
    ("125m", "bf16", 32): {
        (_CACHED, _OURS): 1.5,
        (_ONLINE, _OURS): 4.5,
        (_ONLINE, f"{_GROUPED}, answers"): 7,
        (_LIN_ONLINE, _CACHED_TEXTS): 6,
    },
    ("125m", "fp32", 16): {(_CACHED, _OURS): 1.5, (_ONLINE, _OURS): 5},
    ("32x1024", "bf16", 16): {(_LIN_ONLINE, _CACHED_TEXTS): 4.5},
    ("32x1024", "bf16", 48): {(_CACHED, _OURS): 2, (_CACHED, _GROUPED): 2.5},
}
"""(shape, precision, batch size) -> (reference, method) -> smallest acceptable ratio on one CPU
thread."""


def main(
    shape: Annotated[str, typer.Option(help="Shape of the OPT: " + ", ".join(SHAPES))] = "125m",
    precision: Annotated[str, typer.Option(help="Precision: fp32, bf16 or fp16.")] = "bf16",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    steps: Annotated[int, typer.Option(help="Batches per round.", min=1)] = 2,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Measure only methods of this name; * matches any text."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device: cpu or cuda.")] = "cpu",
    words: Annotated[int, typer.Option(help="Size of the vocabulary.")] = 50_272,
    encoder: Annotated[
        str, typer.Option(help="Image encoder of the online reference; empty: none.")
    ] = "vit-b16",
    rounds: Rounds = 7,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Compare training steps with the official implementation."""
    lm = random_lm(SHAPES[shape], precision, words=words, device=device)
    questions = Questions(words, batch_size, steps, device)
    texts = [text for number in range(rounds) for text in questions.texts(number)]
    dtype = PRECISIONS[precision]
    rows = batch_size * (1 + PROMPT + LONGEST_TEXT)
    with scratch(folder) as place:
        methods = select_methods(step_methods(lm, texts, place / "texts"), only or ["*"])
        timer = StepTimer(questions)
        variants: dict[str, Variant] = {method.name: timer.variant(method) for method in methods}
        variants[MULTIPLY] = multiply_variant(rows, SHAPES[shape], dtype, device)
        if encoder:
            items = write_images(place, batch_size)
            variants[IMAGES] = image_variant(OnlineEncoder(dtype, device, encoder), items, steps)
        flops = {method.name: timer.flops(method) for method in methods}  # also warms up
        samples = interleave(variants, rounds)
    targets = TARGETS.get((shape, precision, batch_size), {}) if device == "cpu" else {}
    lines = step_lines(samples, methods, targets, device) + reached_lines(samples, flops, device)
    title = f"Training steps, {shape}, {precision}, {device}, batches of {batch_size}"
    Result(title, lines).publish(json)


def select_methods(methods: Sequence[StepMethod], patterns: Sequence[str]) -> list[StepMethod]:
    """The methods whose names match a pattern, and their references.

    Raises:
        UsageError: a pattern matches no method.
    """
    names = [method.name for method in methods]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UsageError(f"--only {pattern!r} matches none of: {'; '.join(names)}")
    matching = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    selected = [method for method in methods if method.name in matching]
    references = {method.reference for method in selected}
    return [method for method in methods if method in selected or method.name in references]


def joined(samples: Samples, first: str, second: str) -> list[Sample]:
    """Sums of the times of two variants, round by round."""
    pairs = zip(samples[first], samples[second], strict=True)
    return [Sample(a.work, a.wall + b.wall, a.cpu + b.cpu) for a, b in pairs]


def step_lines(
    samples: Samples,
    methods: Sequence[StepMethod],
    targets: Mapping[tuple[str, str], float],
    device: str,
) -> list[Line]:
    """Rates compared with the official step on cached features, then with online encoding.

    Args:
        samples: samples of all methods, and of image encoding if it was measured.
        methods: the measured methods.
        targets: (reference, method) -> smallest acceptable ratio.
        device: a target applies to wall-clock time on a GPU, to CPU time on a CPU.
    """
    lines = []
    for cached in dict.fromkeys(method.reference for method in methods):
        group_samples = {
            method.name: samples[method.name] for method in methods if method.reference == cached
        }
        groups = {cached: group_samples}
        if IMAGES in samples:
            online = cached.replace("cached", "online")
            rest = {name: each for name, each in group_samples.items() if name != cached}
            groups[online] = {online: joined(samples, cached, IMAGES)} | rest
        for reference, group in groups.items():
            for line in compare(group, reference=reference, unit="samples/s", targets={}):
                ratio = line.ratio if device.startswith("cuda") else line.cpu_ratio
                least = targets.get((reference, line.what))
                if least and ratio:
                    met = ratio.median >= least
                    line = replace(line, target=f"ratio >= {least:g}", met=met)
                lines.append(line)
    return lines


def reached_lines(samples: Samples, flops: Mapping[str, int], device: str) -> list[Line]:
    """Speed of each method relative to a matrix product; on a GPU also the hours of training."""
    on_gpu = device.startswith("cuda")
    divide = ratios if on_gpu else cpu_ratios
    work = {
        name: [replace(sample, work=per_unit * sample.work) for sample in samples[name]]
        for name, per_unit in ({MULTIPLY: 1} | dict(flops)).items()
    }
    lines = [
        Line(
            f"{name}: reached",
            float(np.median([each.work / (each.wall if on_gpu else each.cpu) for each in group]))
            / 1e9,
            "GFLOP/s",
            None if name == MULTIPLY else divide(group, work[MULTIPLY]),
        )
        for name, group in work.items()
    ]
    return lines + ([_hours(name, samples[name]) for name in flops] if on_gpu else [])


def _hours(name: str, samples: list[Sample]) -> Line:
    rate = float(np.median([sample.work / sample.wall for sample in samples]))
    return Line(f"{name}: {PAIRS:,} x {EPOCHS}", PAIRS * EPOCHS / rate / 3600, "hours")


if __name__ == "__main__":
    typer.run(main)
