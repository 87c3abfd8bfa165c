"""Frozen weights in the layout of the CPU's matrix library, made once instead of in every product.

oneDNN rearranges a plain weight whenever it multiplies by it. A frozen weight can be kept
rearranged, for the product itself and for the product with its transpose that backward needs.
Both take the memory of the weight once more.
"""

import logging
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from epalm.system_memory import free_memory

BLOCKED_DTYPES = (torch.float32, torch.bfloat16)
"""Of weights that are worth it; few CPUs multiply in float16."""

MEMORY_SHARE = 0.5
"""Of the memory now available that rearranged weights may take."""

logger = logging.getLogger(__name__)


class OnednnLinear(nn.Linear):
    """A frozen linear map that also has its weight rearranged.

    Attributes:
        ahead: the weight for `multiply`.
    """

    ahead: Tensor

    @classmethod
    def convert(cls, linear: nn.Linear) -> None:
        """Make a frozen map one of these, in place: its hooks and its weight stay."""
        linear.__class__ = cls
        linear.ahead = _reorder(linear.weight.detach())

    @cached_property
    def back(self) -> Tensor:
        """The transpose for `multiply_back`, made when first asked for: generation never asks."""
        return _reorder(self.weight.detach().T.contiguous())

    def forward(self, given: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        made: Tensor = _Product.apply(given, self)
        return made


class _Product(torch.autograd.Function):
    """A linear map whose weight needs no gradient."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, linear: nn.Linear) -> Tensor:  # noqa: ANN401 - untyped
        ctx.linear = linear
        made = multiply(linear, given.flatten(0, -2))
        return made.view(*given.shape[:-1], made.shape[-1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - untyped
        made = multiply_back(ctx.linear, upstream.flatten(0, -2))
        return made.view(*upstream.shape[:-1], made.shape[-1]), None


def multiply(linear: nn.Linear, rows: Tensor) -> Tensor:
    """(N, in) to (N, out), the linear map."""
    if not isinstance(linear, OnednnLinear):
        return nn.functional.linear(rows, linear.weight, linear.bias)
    return _reordered_product(rows, linear.ahead, linear.bias)


def multiply_back(linear: nn.Linear, rows: Tensor) -> Tensor:
    """(N, out) to (N, in): the gradient of what the map was given."""
    if not isinstance(linear, OnednnLinear):
        return rows @ linear.weight
    return _reordered_product(rows, linear.back, None)


def block_weights(module: nn.Module) -> int:
    """Rearrange all frozen linear maps of a module on a CPU, if memory allows.

    Returns:
        How many maps were rearranged; 0, with a line in the log, if there is too little memory or
        this machine's oneDNN cannot multiply by rearranged weights of this dtype.
    """
    found = [part for part in module.modules() if type(part) is nn.Linear and _suits(part)]
    unusable = {part.weight.dtype for part in found if not can_reorder_weights(part.weight.dtype)}
    if unusable:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in unusable))
        logger.info("oneDNN has no kernel for %s weights here: plain products are used", names)
        found = [part for part in found if part.weight.dtype not in unusable]
    needed = 2 * sum(part.weight.nbytes for part in found)
    if needed > MEMORY_SHARE * free_memory():
        logger.info("weights stay as they are: rearranged ones need %.1f GB", needed / 1e9)
        return 0
    for part in found:
        OnednnLinear.convert(part)
    return len(found)


@cache
def can_reorder_weights(dtype: torch.dtype) -> bool:
    """Whether products with rearranged weights of a dtype work in this process.

    PyTorch has no public call for them, and the private one depends on its version and on the CPU:
    bfloat16 needs avx512bw. So both operations are run once on a tiny tensor and compared with the
    plain product.
    """
    if dtype not in BLOCKED_DTYPES or not torch.backends.mkldnn.is_available():
        return False
    weight = torch.eye(16, dtype=dtype)
    rows = torch.arange(32, dtype=dtype).view(2, 16)
    try:
        product = _reordered_product(rows, _reorder(weight), None)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        logger.debug("oneDNN cannot multiply by rearranged %s weights: %s", dtype, error)
        return False
    return torch.equal(product, rows)


def _reorder(weight: Tensor) -> Tensor:
    made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return made


def _reordered_product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return made


def _suits(linear: nn.Linear) -> bool:
    weight = linear.weight
    return (
        weight.device.type == "cpu" and weight.dtype in BLOCKED_DTYPES and not weight.requires_grad
    )
