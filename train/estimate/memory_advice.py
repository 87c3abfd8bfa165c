"""The memory that a run requires, before anything is loaded, and changes that make it fit."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

import numpy as np
import torch

from epalm.cache.readers.reader_choice import AUTO, ram_budget
from epalm.console import byte_size
from epalm.model.engine.quantized import QUANTIZED
from epalm.model.epalm import EPALM
from epalm.model.generation.batched_generation import WINDOW_BATCHES
from epalm.model.method.model_settings import ModelSettings
from epalm.system_memory import free_memory
from epalm.tasks.types import Example
from epalm.train.config.recipe import Recipe
from epalm.train.data.cached_text_states import text_states_bytes
from epalm.train.data.tokenized_texts import TokenizedTexts
from epalm.train.estimate.generation_memory import GenerationShape
from epalm.train.estimate.memory_estimate import MemoryPlan, plan_memory, shape_model
from epalm.train.estimate.step_memory import StepShape
from epalm.train.estimate.weight_memory import WeightPlacement
from epalm.train.options.train_config import ModelConfig, RuntimeConfig
from epalm.train.parallel.distributed import Group

SAMPLED = 2000
"""Largest number of examples whose text lengths are measured."""

DEVIATIONS = 3
"""The planned step has this number of standard deviations more text than the mean step."""

NODE = 8
"""Number of GPUs of the machine that sharding is suggested for."""

FEWER = 4
"""The suggested smaller batch is the batch divided by this number."""

SMALLER = ("bf16", "int8", "int4")
"""Suggested precisions, from large to small weights."""


@dataclass(frozen=True)
class MemoryInputs:
    """Inputs of a memory plan.

    Attributes:
        model: shapes of the model, see `epalm.train.estimate.memory_estimate.shape_model`.
        placing: precision and placement of the frozen weights.
        load: sizes of the batch of one process.
        free: bytes that are free on the device.
        generation: sizes of a batch of validation.
        resident: label -> bytes of other data in the device's memory.
    """

    model: EPALM
    placing: WeightPlacement
    load: StepShape
    free: int
    generation: GenerationShape | None = None
    resident: Mapping[str, int] = field(default_factory=dict)

    def plan(self) -> MemoryPlan:
        """The memory plan."""
        return plan_memory(
            self.model,
            self.placing,
            self.load,
            generation=self.generation,
            resident=self.resident,
            free=self.free,
        )

    def with_resident(self, label: str, count: int) -> "MemoryInputs":
        """The same inputs with further data in the device's memory."""
        return replace(self, resident={**self.resident, label: count})


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
    generation = _generation_shape(model.recipe, group, texts)
    inputs = MemoryInputs(shapes, placing, load, free_on(runtime.device, group), generation)
    if runtime.text_states is None or not placing.cpu:
        return inputs
    states = text_states_bytes(shapes, texts.possible(), placing.itemsize)
    in_memory = states <= ram_budget(AUTO)
    return inputs.with_resident("cached text states", states) if in_memory else inputs


def free_on(device: str, group: Group) -> int:
    """Free bytes for one process; the processes of a machine divide its main memory."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return free_memory() // group.local_world_size


def suggestions(setup: MemoryInputs, batch_size: int) -> list[tuple[str, MemoryPlan]]:
    """Single changes that make a plan fit; where none does, combinations of two or three."""
    options = _options(setup, batch_size)
    for count in (1, 2, 3):
        fitting = []
        for chosen in combinations(options, count):
            changed = setup
            for option in chosen:
                changed = options[option](changed)
            plan = changed.plan()
            if plan.fits and _possible(changed, chosen):
                fitting.append((" ".join(chosen), plan))
        if fitting:
            return fitting
    return []


def _options(
    setup: MemoryInputs, batch_size: int
) -> dict[str, Callable[[MemoryInputs], MemoryInputs]]:
    """Options on the command line -> their effect on the inputs of a plan."""
    layers, placing, load = len(setup.model.plan.feature_of_layer), setup.placing, setup.load
    options: dict[str, Callable[[MemoryInputs], MemoryInputs]] = {}
    if "language_model" not in setup.model.trained and placing.shards == 1:
        bits = _layer_bits(placing.precision)
        smaller = [name for name in SMALLER if _layer_bits(name) < bits]
        options |= {f"--precision {name}": partial(_quantize, name) for name in smaller}
        options[f"--shard-weights with torchrun --nproc-per-node {NODE}"] = _shard
    if placing.recomputed < layers:
        options[f"--set recompute_layers={layers}"] = partial(_recompute, layers)
    if batch_size >= FEWER and load.samples >= FEWER:
        options[f"--set batch_size={batch_size // FEWER}"] = partial(_divide, FEWER)
    return options


def _layer_bits(precision: str) -> int:
    return int(re.sub(r"\D", "", precision))


def _quantize(precision: str, setup: MemoryInputs) -> MemoryInputs:
    return replace(setup, placing=replace(setup.placing, precision=precision))


def _recompute(layers: int, setup: MemoryInputs) -> MemoryInputs:
    return replace(setup, placing=replace(setup.placing, recomputed=layers))


def _shard(setup: MemoryInputs) -> MemoryInputs:
    return replace(_divide(NODE, setup), placing=replace(setup.placing, shards=NODE))


def _divide(parts: int, setup: MemoryInputs) -> MemoryInputs:
    load, generation = setup.load, setup.generation
    samples, images, tokens = (
        -(-count // parts) for count in (load.samples, load.images, load.text_tokens)
    )
    if generation is not None:
        generation = replace(
            generation,
            images=-(-generation.images // parts),
            questions=-(-generation.questions // parts),
        )
    divided = StepShape(samples, images, tokens, load.longest)
    return replace(setup, load=divided, generation=generation)


def _possible(setup: MemoryInputs, options: Sequence[str]) -> bool:
    precisions = [option for option in options if option.startswith("--precision")]
    quantized = setup.placing.precision in QUANTIZED
    return len(precisions) < 2 and not (quantized and setup.placing.shards > 1)


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
    similar_lengths = recipe.bucket_batches > 0 or model.plan.visual_sees_all
    tokens = samples * lengths.mean() + DEVIATIONS * lengths.std() * samples**0.5
    most = samples * longest
    text_tokens = most if similar_lengths else min(int(np.ceil(tokens)), most)
    per_image = len(examples) / len({example.key for example in examples})
    images = int(np.ceil(samples / min(recipe.group_questions, per_image)))
    return StepShape(samples, images, text_tokens, longest)


def _generation_shape(recipe: Recipe, group: Group, texts: TokenizedTexts) -> GenerationShape:
    """Sizes of a batch of validation; its longest prompt is taken to be that of training."""
    prompts, _ = texts.longest()
    questions = -(-recipe.batch_size // group.world_size)
    return GenerationShape(
        images=WINDOW_BATCHES * questions,
        questions=questions,
        beams=recipe.num_beams,
        prompt=max(prompts),
        new=recipe.max_new_tokens,
    )


def describe(plan: MemoryPlan, device: str) -> str:
    """A memory plan in one line."""
    parts = "; ".join(f"{label} {byte_size(count)}" for label, count in plan.parts.items())
    return f"memory of {device}: {byte_size(plan.total)} of {byte_size(plan.free)} free ({parts})"
