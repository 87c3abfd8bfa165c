"""Memory that training requires, traced from the shapes of a model before anything is loaded.

Each number is that of one process and its device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from transformers import AutoModelForCausalLM

from epalm.console import byte_size
from epalm.errors import ModelError
from epalm.model.build import assemble
from epalm.model.engine.language_model import freeze, load_config
from epalm.model.epalm import EPALM
from epalm.model.method.model_settings import ModelSettings
from epalm.train.estimate.generation_memory import GenerationShape, generation_bytes
from epalm.train.estimate.step_memory import StepMemory, StepShape
from epalm.train.estimate.weight_memory import (
    WeightPlacement,
    frozen_bytes,
    onednn_bytes,
    trained_bytes,
)
from epalm.untrusted.hub_config import load_message, loading

USABLE = 0.9
"""Fraction of a device's free memory that a plan may fill; the rest is for fragmentation."""


@dataclass(frozen=True)
class MemoryPlan:
    """Required memory by purpose.

    Attributes:
        parts: label -> bytes; the first entry is the frozen weights.
        free: bytes that were free on the device before anything was loaded.
    """

    parts: Mapping[str, int]
    free: int = field(compare=False)

    @property
    def weights(self) -> int:
        """Bytes of the frozen weights."""
        return next(iter(self.parts.values()))

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the total is within the usable fraction of the free memory."""
        return self.total <= USABLE * self.free

    def check_weights(self) -> None:
        """Refuse weights that are larger than the free memory.

        Raises:
            ModelError: names options that make the weights smaller.
        """
        if self.weights > self.free:
            raise ModelError(
                f"the frozen weights take {byte_size(self.weights)} of each process's device, "
                f"{byte_size(self.free)} are free: give --precision bf16, int8 or int4, a smaller "
                "--lm, or torchrun with --shard-weights; `epalm-train --dry-run` lists what fits"
            )


def shape_model(settings: ModelSettings) -> EPALM:
    """The model on the meta device: its tensors have shapes, and no data.

    Raises:
        ModelError: there is no language model of that name, or none can be made of its config.json.
        UsageError: a setting that does not fit the language model.
    """
    config = load_config(settings.lm, settings.precision)
    config.dtype = None
    with torch.device("meta"):
        with loading(partial(load_message, "language model", settings.lm)):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return assemble(freeze(model), settings)


def plan_memory(
    model: EPALM,
    placing: WeightPlacement,
    load: StepShape,
    *,
    generation: GenerationShape | None = None,
    resident: Mapping[str, int] | None = None,
    free: int = 0,
) -> MemoryPlan:
    """The memory that training requires on one device.

    Args:
        model: shapes of the model, from `shape_model`.
        placing: precision and placement of the frozen weights.
        load: sizes of a step's batch.
        generation: sizes of a batch of validation; None for no validation.
        resident: label -> bytes of other data in the device's memory, such as stored features.
        free: bytes that are free on the device.
    """
    step = StepMemory(model, load, placing)
    during_step = {
        "saved for backward": step.saved(),
        "working memory of a layer": step.working(),
        "LM head, one chunk": step.head(),
    }
    validation = generation_bytes(model, generation, placing) if generation else 0
    optional = {
        "validation, beyond a step": max(0, validation - sum(during_step.values())),
        "weights in oneDNN layout": onednn_bytes(model, placing, free),
        **(resident or {}),
    }
    return MemoryPlan(
        {
            f"frozen weights, {placing.precision}": frozen_bytes(model, placing),
            "trainable tensors, gradients, AdamW": trained_bytes(model),
            **during_step,
            **{label: count for label, count in optional.items() if count},
        },
        free,
    )
