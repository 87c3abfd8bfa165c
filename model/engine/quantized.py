"""Frozen linear maps with weights quantized to 8 or 4 bits.

A weight is dequantized for one product and then discarded, in the forward and in the backward
pass, so that only its codes stay in memory. Codes are computed on the CPU for every device, so
that training and generation use the same ones everywhere.
"""

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from epalm.errors import MissingToolError

QUANTIZED = ("int8", "int4")
"""Quantized precisions of decoder layers' linear maps; embeddings, head, norms and biases are not
quantized.

int8: one scale per output row (LLM.int8(), arXiv:2208.07339, without int8 activations).
int4: NF4, one scale per `BLOCK_SIZE` weights (QLoRA, arXiv:2305.14314, section 3).
"""

BLOCK_SIZE = 64
"""Number of weights that share a scale in int4, as in QLoRA."""

INT8_MAX = 127
"""Code of a row's largest weight."""


class QuantizedLinear(nn.Module):
    """A frozen `torch.nn.Linear` with quantized weights."""

    def __init__(self, linear: nn.Linear, precision: str) -> None:
        """Quantize a linear map.

        Args:
            linear: map with its weight on the CPU; its bias is used as it is.
            precision: one of `QUANTIZED`.
        """
        super().__init__()
        self.precision = precision
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        weight = linear.weight.detach().float()
        codes, scales = _to_int8(weight) if precision == "int8" else _to_int4(weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., in) to (..., out) of the same dtype."""
        product: Tensor = _FrozenProduct.apply(states, self)
        return product if self.bias is None else product + self.bias

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The dequantized weight, (out, in)."""
        codes, scales = self.get_buffer("codes"), self.get_buffer("scales")
        if self.precision == "int8":
            return codes.to(dtype) * scales.to(dtype)[:, None]
        functional = _bitsandbytes()
        shape = torch.Size((len(scales), BLOCK_SIZE))
        state = functional.QuantState(scales, shape, None, BLOCK_SIZE, "nf4", dtype)
        blocks: Tensor = functional.dequantize_4bit(codes, state)
        count = self.out_features * self.in_features
        return blocks.flatten()[:count].view(self.out_features, self.in_features)


class _FrozenProduct(torch.autograd.Function):
    """`states @ weight.T`, which keeps the codes for backward instead of the weight."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, linear: QuantizedLinear) -> Tensor:  # noqa: ANN401
        ctx.linear = linear
        return states @ linear.weight(states.dtype).T

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return upstream @ ctx.linear.weight(upstream.dtype), None


def quantize(layer: nn.Module, precision: str) -> None:
    """Replace all linear maps within a module by quantized ones.

    Raises:
        MissingToolError: int4 needs bitsandbytes, which is not installed.
    """
    if precision == "int4" and find_spec("bitsandbytes") is None:
        raise MissingToolError(
            "lm_precision int4 needs bitsandbytes: pip install 'epalm[quantized]', or use int8"
        )
    for module in list(layer.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, QuantizedLinear(child, precision))


def move_module(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Move a module to a device and cast its parameters; codes and scales keep their dtypes."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(device=device, dtype=dtype)
    module.to(device)


def weight_count(model: nn.Module) -> int:
    """Number of a model's weights, quantized ones included."""
    quantized = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    plain = sum(weight.numel() for weight in model.parameters())
    return plain + sum(linear.in_features * linear.out_features for linear in quantized)


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (out, in) int8 and scales (out) float32."""
    scales = (weight.abs().amax(dim=1) / INT8_MAX).clamp(min=torch.finfo(weight.dtype).tiny)
    return (weight / scales[:, None]).round().to(torch.int8), scales


def _to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, two per byte in uint8, and scales (blocks) float32.

    Each block is a row for bitsandbytes, whose CPU kernel is wrong for rows shorter than a block.
    """
    blocks = nn.functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK_SIZE)).view(
        -1, BLOCK_SIZE
    )
    codes, state = _bitsandbytes().quantize_4bit(blocks, blocksize=BLOCK_SIZE, quant_type="nf4")
    return codes, state.absmax


def _bitsandbytes() -> Any:  # noqa: ANN401 - a module without types
    """Import bitsandbytes.functional without its warnings about kernels that are not used here."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return import_module("bitsandbytes.functional")
