"""Sequential adapters behind the sublayers of every OPT layer, as in the paper's eP-ALM_ada."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.opt.modeling_opt import OPTDecoderLayer

from epalm.errors import ModelError

PLACES = ("attention", "ffn")
"""What an adapter of a layer follows: the attention's output projection, the second linear map."""

DEVIATION = 1e-3
"""Of the initial weights and biases, clamped at twice that (released code)."""


class Adapter(nn.Module):
    """Down, ReLU, up, and a residual connection around them; no norm."""

    def __init__(self, width: int, factor: int) -> None:
        """Draw weights and biases from N(0, `DEVIATION`), clamped at two deviations.

        Args:
            width: H.
            factor: the inner width is H // factor.
        """
        super().__init__()
        self.down = nn.Linear(width, width // factor)
        self.up = nn.Linear(width // factor, width)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=DEVIATION).clamp_(-2 * DEVIATION, 2 * DEVIATION)

    def forward(self, states: Tensor) -> Tensor:
        """(..., H) to (..., H) of the same dtype, computed in float32."""
        change: Tensor = self.up(torch.relu(self.down(states.float())))
        return states + change.to(states.dtype)


class Adapters(nn.ModuleList):
    """An adapter for each of `PLACES` in every layer."""

    def __init__(self, layers: int, width: int, factor: int) -> None:
        """Draw all of them.

        Args:
            layers: number of OPT layers.
            width: H.
            factor: see `Adapter`.
        """
        super().__init__(
            nn.ModuleDict({place: Adapter(width, factor) for place in PLACES})
            for _ in range(layers)
        )

    def attach(self, layers: Sequence[OPTDecoderLayer]) -> None:
        """Let the adapters change what the layers' sublayers put out, before dropout and residual.

        The layers keep their own modules and parameters: the adapters hang on as forward hooks.

        Raises:
            ModelError: the layers carry adapters already.
        """
        for index, layer in enumerate(layers):
            for place, module in zip(PLACES, (layer.self_attn.out_proj, layer.fc2), strict=True):
                if module._forward_hooks:
                    raise ModelError(
                        "the language model carries adapters already: load it anew for each model"
                    )
                module.register_forward_hook(
                    partial(_adapt, self.get_submodule(f"{index}.{place}"))
                )


def _adapt(adapter: nn.Module, module: nn.Module, given: Any, states: Tensor) -> Tensor:  # noqa: ANN401 - torch's signature
    """The hook: what a module puts out, through the adapter behind it."""
    del module, given
    adapted: Tensor = adapter(states)
    return adapted
