"""How much faster is a training step of the late variants than one of `full`?

    OMP_NUM_THREADS=1 python -m bench.late --shape 32x1024

All methods run the same texts through forward, backward and AdamW, in fp32 with weights in oneDNN
layout. The late variants read cached text states, which `full` cannot use. There are two groups:
every text with its own image and all of its tokens supervised, and five questions per image with
only the answers supervised. Targets are for ratios of CPU time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from transformers import OPTForCausalLM

from bench.support.scratch_stores import scratch
from bench.support.step_variants import (
    QUESTIONS_PER_IMAGE,
    StepMethod,
    StepTimer,
    our_method,
    twin,
)
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    Samples,
    Variant,
    cpu_rate_lines,
    interleave,
)
from bench.support.vqa_workload import SHAPES, BatchLayout, Questions, random_lm, random_model
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.train.data.cached_text_states import CachedTextStates, open_text_states
from epalm.train.data.tokenized_texts import Text

VARIANTS = ("full", "late", "late-deep")

UNGROUPED, ANSWERS = "ungrouped", f"{QUESTIONS_PER_IMAGE} per image, answers"

LAYOUTS = {
    UNGROUPED: BatchLayout(),
    ANSWERS: BatchLayout(QUESTIONS_PER_IMAGE, supervise="answer"),
}

TARGETS = {
    "32x1024": {f"late-deep, {UNGROUPED}": 2.2, f"late-deep, {ANSWERS}": 2.6},
}
"""Shape -> method -> smallest acceptable ratio to `full` on one CPU thread."""


def main(
    shape: Annotated[str, typer.Option(help="Shape of the OPT: " + ", ".join(SHAPES))] = "32x1024",
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    steps: Annotated[int, typer.Option(help="Batches per round.", min=1)] = 1,
    words: Annotated[int, typer.Option(help="Size of the vocabulary.")] = 50_272,
    rounds: Rounds = 7,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Compare training steps of the late variants with those of `full`."""
    lm = random_lm(SHAPES[shape], "fp32", words=words, device="cpu")
    questions = Questions(words, batch_size, steps, "cpu")
    texts = [text for number in range(rounds) for text in questions.texts(number)]
    with scratch(folder) as place:
        methods = late_methods(lm, texts, place / "texts")
        timer = StepTimer(questions)
        variants: dict[str, Variant] = {method.name: timer.variant(method) for method in methods}
        operations = [
            Line(f"{method.name}: operations", timer.flops(method) / 1e9, "GFLOP/sample")
            for method in methods
        ]  # also warms up
        samples = interleave(variants, rounds)
    title = f"Training steps of the late variants, {shape}, fp32, batches of {batch_size}"
    Result(title, [*late_lines(samples, TARGETS.get(shape, {})), *operations]).publish(json)


def late_methods(lm: OPTForCausalLM, texts: Sequence[Text], folder: Path) -> list[StepMethod]:
    """`full` and the late variants in every layout.

    Args:
        lm: the frozen language model.
        texts: all training texts.
        folder: folder of the cached text states.
    """
    blocked = twin(lm)
    use_onednn_layout(blocked)
    models = {variant: random_model(blocked, variant) for variant in VARIANTS}
    lower: dict[str, Callable[[], CachedTextStates]] = {
        variant: partial(open_text_states, folder, model, texts, digest="random", quiet=True)
        for variant, model in models.items()
        if model.can_cache_text_states
    }
    return [
        our_method(f"{variant}, {group}", f"full, {group}", model, layout, lower=lower.get(variant))
        for group, layout in LAYOUTS.items()
        for variant, model in models.items()
    ]


def late_lines(samples: Samples, targets: dict[str, float]) -> list[Line]:
    """Rates of each group's methods compared with its `full`, in CPU time."""
    lines = []
    for group in LAYOUTS:
        own = {name: each for name, each in samples.items() if name.endswith(f", {group}")}
        lines += cpu_rate_lines(
            own, reference=f"full, {group}", unit="samples/CPU s", targets=targets
        )
    return lines


if __name__ == "__main__":
    typer.run(main)
