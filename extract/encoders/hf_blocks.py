"""A Hugging Face transformer as an encoder: where its blocks and its final norm are.

A model serves if each of its blocks has a class token at position 0 and one norm makes the model's
own output of the last block. That is found out by running it, not by its name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from epalm.errors import ModelError
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.encoder_registry import CODE_VERSION
from epalm.extract.encoders.frozen_forward import capture_outputs, frozen_pass
from epalm.tasks.types import Modality

CLASS_TOKENS = ("cls_token", "class_embedding")
"""Last parts of the names that Hugging Face's models give the parameter of their class token."""

NORM_TOLERANCE = 1e-4
"""How far the final norm's [CLS] may lie from the model's own output; rounding alone."""


class FingerprintedLoader(Loader, Protocol):
    """A loader that knows what decides its inputs."""

    def fingerprint(self) -> dict[str, str]:
        """All that decides what becomes of a medium."""


@dataclass(frozen=True)
class ModelInput:
    """The way into a model.

    Attributes:
        modality: of the media that `load` decodes.
        load: makes one input.
        arguments: makes the model's arguments of a batch of inputs.
        example: one input, any that could come.
        more: what else decides a vector, for the fingerprint.
    """

    modality: Modality
    load: FingerprintedLoader
    arguments: Callable[[Tensor], dict[str, Tensor]]
    example: Tensor
    more: dict[str, str] = field(default_factory=dict)


class HiddenStatesEncoder:
    """A frozen transformer with a class token as an `Encoder`."""

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        entrance: ModelInput,
        *,
        digest: str,
        precision: str,
    ) -> None:
        """Find the blocks and the final norm, by running the model.

        Args:
            name: as on the command line.
            model: with its weights, on its device.
            entrance: what it takes.
            digest: of the weights.
            precision: see `EncoderSettings`.

        Raises:
            ModelError: the model has no class token in every block, or no final norm.
        """
        self.name = name
        self.modality = entrance.modality
        self.load: Loader = entrance.load
        self.model = model.eval().requires_grad_(requires_grad=False)
        self._entrance = entrance
        self._digest = digest
        self._precision = precision
        self._blocks = find_blocks(model, name)
        self.depth = len(self._blocks)
        states, output = self._probe()
        self.positions, self.width = states.shape[1:]
        self.norm = find_norm(model, self._blocks, states=states, output=output, name=name)

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """The outputs of blocks, before the final norm.

        Args:
            batch: (B, ...) inputs of `load`, stacked.
            layers: which blocks, 0-based and ascending; None for every one.
            positions: how many tokens of each: [CLS], further class tokens if there are any, then
                patches by row; TimeSformer has the frames of a patch one after the other.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        wanted = self._blocks if layers is None else [self._blocks[layer] for layer in layers]
        arguments = self._entrance.arguments(batch)
        device = self.model.device
        with capture_outputs(wanted, positions) as outputs, frozen_pass(self._precision, device):
            self.model(**arguments)
        return outputs

    def fingerprint(self) -> dict[str, str]:
        """Architecture, weights' digest, token, norm, precision, code, and all of the loader."""
        return {
            "architecture": f"transformers {self.model.config.model_type}",
            "weights_sha256": self._digest,
            "token": "cls",
            "norm": "final",
            "precision": self._precision,
            "code": CODE_VERSION,
            **self._entrance.load.fingerprint(),
            **self._entrance.more,
        }

    def _probe(self) -> tuple[Tensor, Any]:
        """The last block's output for the example, and the model's own."""
        arguments = self._entrance.arguments(self._entrance.example[None])
        try:
            with torch.inference_mode(), capture_outputs(self._blocks[-1:], 1 << 30) as states:
                output, _ = self.model(**arguments), self.model(**arguments)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{self.name} cannot be run on its inputs alone: {reason}") from error
        if len(states) != 2 or not torch.allclose(
            states[0], states[1], rtol=0, atol=NORM_TOLERANCE
        ):
            raise ModelError(
                f"{self.name} gives other tokens at each run: choose another --encoder"
            )
        return states[0], output


def find_blocks(model: nn.Module, name: str) -> Sequence[nn.Module]:
    """The blocks, in order.

    Raises:
        ModelError: there are none, or the model has no class token.
    """
    named = [parameter.rpartition(".")[2] for parameter, _ in model.named_parameters()]
    if not set(named) & set(CLASS_TOKENS):
        raise ModelError(
            f"{name} has no class token, and its [CLS] is what is kept: choose another --encoder, "
            "for example a ViT, DINOv2, CLIP's vision tower, TimeSformer or AST"
        )
    depth = getattr(model.config, "num_hidden_layers", None)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    found = next((blocks for blocks in lists if len(blocks) == depth), None)
    if not found:
        raise ModelError(f"{name} has no list of {depth} blocks: choose another --encoder")
    return list(found)


def find_norm(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    *,
    states: Tensor,
    output: Any,  # noqa: ANN401 - each model has an output class of its own
    name: str,
) -> nn.Module:
    """The norm outside the blocks that makes the model's own [CLS] of the last block's.

    Args:
        model: the whole.
        blocks: its blocks.
        states: (B, tokens, D) output of the last block.
        output: what the model itself said.
        name: of the encoder.

    Raises:
        ModelError: no norm does.
    """
    own = [getattr(output, "last_hidden_state", None), getattr(output, "pooler_output", None)]
    goals = [goal[:, 0] if goal.dim() == 3 else goal for goal in own if goal is not None]
    inside = {id(module) for block in blocks for module in block.modules()}
    # The last one first: before training, a norm ahead of the blocks computes the same.
    for module in reversed(list(model.modules())):
        if id(module) in inside or not type(module).__name__.endswith("Norm"):
            continue
        if module.weight.shape != states.shape[-1:]:
            continue
        with torch.inference_mode():
            cls = module(states)[:, 0]
        if any(
            goal.shape == cls.shape and torch.allclose(goal, cls, rtol=0, atol=NORM_TOLERANCE)
            for goal in goals
        ):
            return module
    raise ModelError(
        f"{name} has no final norm that makes its [CLS] of the last block: choose another --encoder"
    )
