"""A Hugging Face transformer as an encoder: finding its blocks and its final norm.

A model is supported if every block has a class token at position 0 and a single norm turns the
output of the last block into the model's own output. This is checked by running the model, not by
its name.
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
"""Last parts of the names of the class token's parameter in Hugging Face models."""

NORM_TOLERANCE = 1e-4
"""Largest difference of the final norm's [CLS] from the model's own output, due to rounding."""


class FingerprintedLoader(Loader, Protocol):
    """A loader that describes how it makes inputs."""

    def fingerprint(self) -> dict[str, str]:
        """Every setting of decoding and transforms that could change an input, as text."""


@dataclass(frozen=True)
class ModelInput:
    """The input of a model and how it is made.

    Attributes:
        modality: modality of the samples that `load` decodes.
        load: makes one input.
        arguments: makes the model's keyword arguments from a batch of inputs.
        example: an arbitrary input of the right shape.
        more: further settings for the fingerprint.
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
        model_input: ModelInput,
        *,
        digest: str,
        precision: str,
    ) -> None:
        """Find the blocks and the final norm by running the model.

        Args:
            name: name on the command line.
            model: model with its weights, on its device.
            model_input: the input of the model.
            digest: digest of the weights.
            precision: precision of matrix products, see `EncoderSettings`.

        Raises:
            ModelError: the model has no class token in every block, or no final norm.
        """
        self.name = name
        self.modality = model_input.modality
        self.load: Loader = model_input.load
        self.model = model.eval().requires_grad_(requires_grad=False)
        self._input = model_input
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
        """Compute the outputs of blocks, before the final norm.

        Args:
            batch: (B, ...) stacked inputs of `load`.
            layers: 0-based ascending numbers of the blocks; None for all blocks.
            positions: number of tokens per block. The order is [CLS], further class tokens if there
                are any, patches by row; TimeSformer has the frames of a patch one after the other.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        blocks = self._blocks if layers is None else [self._blocks[layer] for layer in layers]
        arguments = self._input.arguments(batch)
        device = self.model.device
        with capture_outputs(blocks, positions) as outputs, frozen_pass(self._precision, device):
            self.model(**arguments)
        return outputs

    def fingerprint(self) -> dict[str, str]:
        """Architecture, digest of the weights, precision, code version, settings of the loader."""
        return {
            "architecture": f"transformers {self.model.config.model_type}",
            "weights_sha256": self._digest,
            "token": "cls",
            "norm": "final",
            "precision": self._precision,
            "code": CODE_VERSION,
            **self._input.load.fingerprint(),
            **self._input.more,
        }

    def _probe(self) -> tuple[Tensor, Any]:
        """The output of the last block and that of the model for the example input."""
        arguments = self._input.arguments(self._input.example[None])
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
                f"{self.name} gives different tokens in each run: choose another --encoder"
            )
        return states[0], output


def find_blocks(model: nn.Module, name: str) -> Sequence[nn.Module]:
    """Find the blocks of a model, in order.

    Raises:
        ModelError: there are none, or the model has no class token.
    """
    parameters = {parameter.rpartition(".")[2] for parameter, _ in model.named_parameters()}
    if not parameters & set(CLASS_TOKENS):
        raise ModelError(
            f"{name} has no class token, which is what a store keeps: choose another --encoder, "
            "for example a ViT, DINOv2, CLIP's vision tower, TimeSformer or AST"
        )
    depth = getattr(model.config, "num_hidden_layers", None)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = next((modules for modules in lists if len(modules) == depth), None)
    if not blocks:
        raise ModelError(f"{name} has no list of {depth} blocks: choose another --encoder")
    return list(blocks)


def find_norm(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    *,
    states: Tensor,
    output: Any,  # noqa: ANN401 - each model has its own output class
    name: str,
) -> nn.Module:
    """Find the norm outside the blocks that turns the last block's [CLS] into the model's own.

    Args:
        model: the whole model.
        blocks: transformer blocks of the model.
        states: (B, tokens, D) output of the last block.
        output: output of the model.
        name: name of the encoder.

    Raises:
        ModelError: there is no such norm.
    """
    outputs = [getattr(output, "last_hidden_state", None), getattr(output, "pooler_output", None)]
    expected = [out[:, 0] if out.dim() == 3 else out for out in outputs if out is not None]
    inside = {id(module) for block in blocks for module in block.modules()}
    # Start with the last one: in an untrained model, a norm before the blocks computes the same.
    for module in reversed(list(model.modules())):
        if id(module) in inside or not type(module).__name__.endswith("Norm"):
            continue
        if module.weight.shape != states.shape[-1:]:
            continue
        with torch.inference_mode():
            cls = module(states)[:, 0]
        if any(
            own.shape == cls.shape and torch.allclose(own, cls, rtol=0, atol=NORM_TOLERANCE)
            for own in expected
        ):
            return module
    raise ModelError(
        f"{name} has no final norm that gives its [CLS] from the last block: choose another "
        "--encoder"
    )
