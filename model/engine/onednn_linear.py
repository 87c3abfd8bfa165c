"""Frozen weights in oneDNN layout, so that products on a CPU need no conversion of the weight.

oneDNN converts a plain weight to its own layout in every product. A frozen weight can be kept in
that layout, for the forward product and for the product with its transpose in backward. Each of
the two copies takes as much memory as the weight.
"""

import logging
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from epalm.system_memory import free_memory

ONEDNN_DTYPES = (torch.float32, torch.bfloat16)
"""Dtypes of weights that are converted; few CPUs multiply in float16."""

MEMORY_FRACTION = 0.5
"""Fraction of the available memory that weights in oneDNN layout may take."""

logger = logging.getLogger(__name__)


class OnednnLinear(nn.Linear):
    """A frozen linear map with a second copy of its weight in oneDNN layout.

    Attributes:
        onednn_weight: the weight in oneDNN layout, for `multiply`.
    """

    onednn_weight: Tensor

    @classmethod
    def convert(cls, linear: nn.Linear) -> None:
        """Convert a frozen linear map in place; its hooks and its weight stay."""
        linear.__class__ = cls
        linear.onednn_weight = _to_onednn(linear.weight.detach())

    @cached_property
    def onednn_transpose(self) -> Tensor:
        """The transposed weight for `multiply_transposed`, converted at the first backward pass."""
        return _to_onednn(self.weight.detach().T.contiguous())

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        product: Tensor = _Product.apply(states, self)
        return product


class _Product(torch.autograd.Function):
    """A linear map whose weight needs no gradient."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, linear: nn.Linear) -> Tensor:  # noqa: ANN401 - untyped
        ctx.linear = linear
        product = multiply(linear, states.flatten(0, -2))
        return product.view(*states.shape[:-1], product.shape[-1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - untyped
        product = multiply_transposed(ctx.linear, upstream.flatten(0, -2))
        return product.view(*upstream.shape[:-1], product.shape[-1]), None


def multiply(linear: nn.Linear, states: Tensor) -> Tensor:
    """Apply the linear map: (N, in) to (N, out)."""
    if not isinstance(linear, OnednnLinear):
        return nn.functional.linear(states, linear.weight, linear.bias)
    return _onednn_product(states, linear.onednn_weight, linear.bias)


def multiply_transposed(linear: nn.Linear, gradient: Tensor) -> Tensor:
    """Multiply by the transposed weight, (N, out) to (N, in): the gradient of the map's input."""
    if not isinstance(linear, OnednnLinear):
        return gradient @ linear.weight
    return _onednn_product(gradient, linear.onednn_transpose, None)


def use_onednn_layout(module: nn.Module) -> int:
    """Convert all frozen linear maps of a module on a CPU to oneDNN layout, if memory allows.

    Returns:
        The number of converted maps; 0, with a line in the log, if there is too little memory or
        this machine's oneDNN does not support weights of this dtype.
    """
    maps = [part for part in module.modules() if type(part) is nn.Linear and _is_convertible(part)]
    unsupported = {part.weight.dtype for part in maps if not onednn_layout_works(part.weight.dtype)}
    if unsupported:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in unsupported))
        logger.info("oneDNN has no kernel for %s weights here: using plain products", names)
        maps = [part for part in maps if part.weight.dtype not in unsupported]
    needed = 2 * sum(part.weight.nbytes for part in maps)
    if needed > MEMORY_FRACTION * free_memory():
        logger.info("too little memory for weights in oneDNN layout (%.1f GB)", needed / 1e9)
        return 0
    for part in maps:
        OnednnLinear.convert(part)
    return len(maps)


@cache
def onednn_layout_works(dtype: torch.dtype) -> bool:
    """Whether products with weights of this dtype in oneDNN layout work in this process.

    PyTorch has only private operations for them, which depend on its version and on the CPU:
    bfloat16 needs avx512bw. So both operations run once on a tiny tensor, and the result is
    compared with the plain product.
    """
    if dtype not in ONEDNN_DTYPES or not torch.backends.mkldnn.is_available():
        return False
    weight = torch.eye(16, dtype=dtype)
    states = torch.arange(32, dtype=dtype).view(2, 16)
    try:
        product = _onednn_product(states, _to_onednn(weight), None)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        logger.debug("oneDNN cannot multiply by %s weights in its own layout: %s", dtype, error)
        return False
    return torch.equal(product, states)


def _to_onednn(weight: Tensor) -> Tensor:
    converted: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return converted


def _onednn_product(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return product


def _is_convertible(linear: nn.Linear) -> bool:
    weight = linear.weight
    return (
        weight.device.type == "cpu" and weight.dtype in ONEDNN_DTYPES and not weight.requires_grad
    )
