"""What a run will take of its device, known before anything is loaded, and what would take less."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
import torch

from epalm.console import byte_size
from epalm.model.engine.quantized import QUANTIZED
from epalm.model.epalm import EPALM
from epalm.model.method.model_settings import ModelSettings
from epalm.system_memory import free_memory
from epalm.tasks.types import Example
from epalm.train.config.train_config import ModelConfig, RuntimeConfig
from epalm.train.data.tokenized_texts import TokenizedTexts
from epalm.train.estimate.memory_estimate import (
    MemoryPlan,
    StepShape,
    WeightPlacement,
    plan_memory,
    shape_model,
)
from epalm.train.parallel.distributed import Group

SAMPLED = 2000
"""Examples whose texts are measured."""

DEVIATIONS = 3
"""By how many standard deviations the planned step has more text than the mean one."""

NODE = 8
"""GPUs of the machine that sharding is suggested for."""

FEWER = 4
"""What the suggested smaller batch is a fraction of."""

SMALLER = ("bf16", "int8", "int4")
"""Precisions that are suggested, each with smaller weights than the one before."""


@dataclass(frozen=True)
class MemoryInputs:
    """What a plan is made of.

    Attributes:
        model: shapes only, see `epalm.train.estimate.memory_estimate.shape_model`.
        placing: of the frozen weights.
        load: of one process in a step.
        free: bytes that are free on the device.
    """

    model: EPALM
    placing: WeightPlacement
    load: StepShape
    free: int

    def plan(self, store: int = 0) -> MemoryPlan:
        """The plan, with the bytes of vectors that lie on the device."""
        return plan_memory(self.model, self.placing, self.load, store=store, free=self.free)


def memory_inputs(
    model: ModelConfig,
    runtime: RuntimeConfig,
    settings: ModelSettings,
    texts: TokenizedTexts,
    examples: Sequence[Example],
) -> MemoryInputs:
    """Look at the configuration, the texts and the device; no weights are read.

    Args:
        model: recipe and seed of the run.
        runtime: device and processes.
        settings: settings of the model.
        texts: token ids of the examples.
        examples: training examples.
    """
    shapes, group = shape_model(settings), runtime.group
    placing = WeightPlacement(
        precision=settings.precision,
        shards=group.world_size if runtime.shard_weights else 1,
        recomputed=model.recipe.recompute_layers,
        cpu=torch.device(runtime.device).type == "cpu",
    )
    load = _step_shape(model, group, shapes, texts=texts, examples=examples)
    return MemoryInputs(shapes, placing, load, free_on(runtime.device, group))


def free_on(device: str, group: Group) -> int:
    """Bytes that one process may still take; processes share a machine's main memory."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return free_memory() // group.local_world_size


def suggestions(
    setup: MemoryInputs, batch_size: int, store: int = 0
) -> list[tuple[str, MemoryPlan]]:
    """The changes that make a plan fit, each alone; where none does, two or three together."""
    options = _options(setup, batch_size)
    for count in (1, 2, 3):
        found = []
        for chosen in combinations(options, count):
            changed = setup
            for option in chosen:
                changed = options[option](changed)
            plan = changed.plan(store)
            if plan.fits and _possible(changed, chosen):
                found.append((" ".join(chosen), plan))
        if found:
            return found
    return []


def _options(
    setup: MemoryInputs, batch_size: int
) -> dict[str, Callable[[MemoryInputs], MemoryInputs]]:
    """What to write on the command line -> what it does."""
    layers, placing, load = len(setup.model.plan.feature_of_layer), setup.placing, setup.load
    options: dict[str, Callable[[MemoryInputs], MemoryInputs]] = {}
    if "language_model" not in setup.model.trained and placing.shards == 1:
        bits = _layer_bits(placing.precision)
        smaller = [name for name in SMALLER if _layer_bits(name) < bits]
        options |= {f"--precision {name}": partial(_quantise, name) for name in smaller}
        options[f"--shard-weights with torchrun --nproc-per-node {NODE}"] = _shard
    if placing.recomputed < layers:
        options[f"--set recompute_layers={layers}"] = partial(_recompute, layers)
    if batch_size >= FEWER and load.samples >= FEWER:
        options[f"--set batch_size={batch_size // FEWER}"] = partial(_divide, FEWER)
    return options


def _layer_bits(precision: str) -> int:
    return int(re.sub(r"\D", "", precision))


def _quantise(precision: str, setup: MemoryInputs) -> MemoryInputs:
    return replace(setup, placing=replace(setup.placing, precision=precision))


def _recompute(layers: int, setup: MemoryInputs) -> MemoryInputs:
    return replace(setup, placing=replace(setup.placing, recomputed=layers))


def _shard(setup: MemoryInputs) -> MemoryInputs:
    return replace(_divide(NODE, setup), placing=replace(setup.placing, shards=NODE))


def _divide(parts: int, setup: MemoryInputs) -> MemoryInputs:
    load = setup.load
    samples, pictures, rows = (
        -(-count // parts) for count in (load.samples, load.pictures, load.text_rows)
    )
    return replace(setup, load=StepShape(samples, pictures, rows, load.longest))


def _possible(setup: MemoryInputs, options: Sequence[str]) -> bool:
    precisions = [option for option in options if option.startswith("--precision")]
    quantised = setup.placing.precision in QUANTIZED
    return len(precisions) < 2 and not (quantised and setup.placing.shards > 1)


def _step_shape(
    config: ModelConfig,
    group: Group,
    model: EPALM,
    *,
    texts: TokenizedTexts,
    examples: Sequence[Example],
) -> StepShape:
    recipe = config.recipe
    random = np.random.default_rng(config.seed)
    places = random.permutation(len(examples))[:SAMPLED]
    lengths = texts.lengths(places, random.random(len(places)))
    samples, longest = group.size(min(recipe.batch_size, len(examples))), int(lengths.max())
    alike = recipe.bucket_batches > 0 or model.plan.visual_sees_all
    rows = samples * lengths.mean() + DEVIATIONS * lengths.std() * samples**0.5
    text_rows = samples * longest if alike else min(int(np.ceil(rows)), samples * longest)
    per_picture = len(examples) / len({example.key for example in examples})
    pictures = int(np.ceil(samples / min(recipe.group_questions, per_picture)))
    return StepShape(samples, pictures, text_rows, longest)


def describe(plan: MemoryPlan, device: str) -> str:
    """The plan in one line."""
    parts = "; ".join(f"{label} {byte_size(count)}" for label, count in plan.parts.items())
    return f"memory of {device}: {byte_size(plan.total)} of {byte_size(plan.free)} free ({parts})"
