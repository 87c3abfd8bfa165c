"""The forward pass of frozen encoders: normalization, outputs of blocks, digest of weights."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from epalm.extract.transforms.image_preset import ImagePreset
from epalm.precision import DTYPES

EVERY = 1 << 30
"""Number of tokens that no block has: all of them are captured."""


class PixelNorm:
    """Normalizes uint8 pixels on the model's device."""

    def __init__(self, preset: ImagePreset, device: str) -> None:
        self._mean = torch.tensor(preset.mean, device=device).reshape(3, 1, 1)
        self._std = torch.tensor(preset.std, device=device).reshape(3, 1, 1)

    def __call__(self, batch: Tensor) -> Tensor:
        """Convert (..., 3, height, width) uint8 to normalized float32 of the same shape."""
        return (batch.to(self._mean.device).float() / 255 - self._mean) / self._std


@contextmanager
def capture_outputs(
    blocks: Iterable[nn.Module],
    positions: int = EVERY,
    as_tokens: Callable[[Tensor], Tensor] = lambda states: states,
) -> Iterator[list[Tensor]]:
    """Capture the first tokens of the output of blocks while the model runs in the context.

    Args:
        blocks: modules whose output, or its first element, `as_tokens` takes.
        positions: number of tokens per block, starting with [CLS] if there is one.
        as_tokens: makes (B, tokens, D) of an output, e.g. of one with two spatial axes.

    Yields:
        A list that receives one (B, positions, D) float32 tensor per block, in order.
    """
    outputs: list[Tensor] = []

    def record(_block: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        states = output[0] if isinstance(output, tuple) else output
        outputs.append(as_tokens(states)[:, :positions].float().clone())

    handles = [block.register_forward_hook(record) for block in blocks]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen_pass(precision: str, device: torch.device) -> Iterator[None]:
    """Set the precision of a forward pass of an encoder.

    With bf16 or fp16, matrix products are computed in that type, while the residual stream and the
    norms stay in float32. The patch embedding stays in full float32 on GPUs, where torch could
    round it to TF32.
    """
    dtype = getattr(torch, DTYPES[precision])
    with (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32"),
    ):
        yield


def state_digest(model: nn.Module, *, without: Collection[str] = ()) -> str:
    """SHA-256 of the name, dtype, shape and bytes of every weight, in order of the names.

    Args:
        model: model with its weights.
        without: names of weights to leave out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in without:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
