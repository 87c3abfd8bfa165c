"""Less memory for more time: decoder layers whose inner tensors backward makes anew."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute_last(layers: nn.ModuleList, count: int) -> None:
    """Keep only what enters the last `count` layers; all of them if there are fewer.

    The last ones, since those below the first trained tensor keep nothing anyhow. Hooks on a layer
    stay outside of what is computed twice, hooks within it are called twice; dropout draws the same
    masks both times.
    """
    for layer in layers[max(len(layers) - count, 0) :]:
        layer.forward = partial(_remember_input, layer.forward)


def _remember_input(
    forward: Callable[..., Tensor],
    rows: Tensor,
    **settings: Any,  # noqa: ANN401 - what a decoder layer takes
) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(rows, **settings)
    made: Tensor = checkpoint(forward, rows, use_reentrant=False, **settings)
    return made
