"""Activation checkpointing: layers recompute their activations in backward to save memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_last_layers(layers: nn.ModuleList, count: int) -> None:
    """Keep only the inputs of the last `count` layers; of all layers if there are fewer.

    The last layers are chosen since those below the first trained tensor keep nothing for
    backward. Hooks on a layer are called once, hooks on its modules twice; dropout uses the same
    masks both times.
    """
    for layer in layers[max(len(layers) - count, 0) :]:
        layer.forward = partial(_checkpointed_forward, layer.forward)


def checkpoint_no_layers(layers: nn.ModuleList) -> None:
    """Undo `checkpoint_last_layers`."""
    for layer in layers:
        vars(layer).pop("forward", None)


def _checkpointed_forward(
    forward: Callable[..., Tensor],
    hidden: Tensor,
    **kwargs: Any,  # noqa: ANN401 - arguments of a decoder layer
) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(hidden, **kwargs)
    output: Tensor = checkpoint(forward, hidden, use_reentrant=False, **kwargs)
    return output
