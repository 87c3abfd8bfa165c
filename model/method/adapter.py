"""Sequential adapters after the sublayers of every layer, as in the paper's eP-ALM_ada."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from epalm.errors import ModelError
from epalm.model.families.decoder_parts import DecoderParts

SUBLAYERS = ("attention", "ffn")
"""Sublayers that an adapter follows: attention's output projection, the FFN's second linear map."""

INIT_STD = 1e-3
"""Standard deviation of the initial weights and biases, which are clamped at twice this value
(official implementation)."""


class Adapter(nn.Module):
    """Bottleneck adapter: down-projection, ReLU, up-projection, residual connection, no norm."""

    def __init__(self, width: int, factor: int) -> None:
        """Draw weights and biases from N(0, `INIT_STD`), clamped at two standard deviations.

        Args:
            width: H.
            factor: reduction factor; the bottleneck's width is H // factor.
        """
        super().__init__()
        self.down = nn.Linear(width, width // factor)
        self.up = nn.Linear(width // factor, width)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=INIT_STD).clamp_(-2 * INIT_STD, 2 * INIT_STD)

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., H) to (..., H) of the same dtype, computed in float32."""
        change: Tensor = self.up(torch.relu(self.down(states.float())))
        return states + change.to(states.dtype)


class Adapters(nn.ModuleList):
    """One adapter for each of `SUBLAYERS` in every layer from the first adapted one on."""

    def __init__(self, layers: int, width: int, factor: int, *, first: int = 0) -> None:
        """Create and initialize all adapters.

        Args:
            layers: number of decoder layers.
            width: H.
            factor: reduction factor, see `Adapter`.
            first: first adapted layer.
        """
        super().__init__(
            nn.ModuleDict({sublayer: Adapter(width, factor) for sublayer in SUBLAYERS})
            for _ in range(first, layers)
        )
        self.first = first

    def attach(self, parts: DecoderParts) -> None:
        """Apply the adapters to the sublayers' outputs, before dropout and residual connection.

        The layers keep their own modules and parameters: the adapters are forward hooks.

        Raises:
            ModelError: the layers already have adapters.
        """
        for index, layer in enumerate(parts.layers[self.first :]):
            for sublayer, name in zip(SUBLAYERS, parts.sublayers, strict=True):
                module = layer.get_submodule(name)
                if module._forward_hooks:
                    raise ModelError(
                        "the language model already has adapters: load it again for each model"
                    )
                module.register_forward_hook(
                    partial(_adapt, self.get_submodule(f"{index}.{sublayer}"))
                )


def detach_adapters(parts: DecoderParts) -> None:
    """Remove the adapters of earlier models from the language model's layers."""
    for layer in parts.layers:
        for name in parts.sublayers:
            layer.get_submodule(name)._forward_hooks.clear()


def _adapt(adapter: nn.Module, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:  # noqa: ANN401 - torch's signature
    """Forward hook that passes a module's output through its adapter."""
    del module, inputs
    adapted: Tensor = adapter(output)
    return adapted
