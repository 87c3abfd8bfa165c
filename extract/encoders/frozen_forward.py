"""What every frozen model needs for a pass: normalised pixels, its blocks' outputs, its digest."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from epalm.extract.transforms.image_transform import ImagePreset
from epalm.precision import DTYPES


class PixelNorm:
    """Pixels as bytes to the numbers a model takes, on the model's device."""

    def __init__(self, preset: ImagePreset, device: str) -> None:
        self._mean = torch.tensor(preset.mean, device=device).reshape(3, 1, 1)
        self._std = torch.tensor(preset.std, device=device).reshape(3, 1, 1)

    def __call__(self, batch: Tensor) -> Tensor:
        """(..., 3, height, width) uint8 to float32 of the same shape."""
        return (batch.to(self._mean.device).float() / 255 - self._mean) / self._std


@contextmanager
def capture_outputs(blocks: Iterable[nn.Module], positions: int) -> Iterator[list[Tensor]]:
    """The first tokens of each block's output, once the model has run within the context.

    Args:
        blocks: modules whose output, or its first member, is (B, tokens, D).
        positions: how many tokens of each, from [CLS] on.

    Yields:
        A list that fills with one (B, positions, D) float32 tensor per block, in order.
    """
    outputs: list[Tensor] = []

    def record(_block: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        states = output[0] if isinstance(output, tuple) else output
        outputs.append(states[:, :positions].float().clone())

    handles = [block.register_forward_hook(record) for block in blocks]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen_pass(precision: str, device: torch.device) -> Iterator[None]:
    """The numerics of all extraction.

    With bf16 or fp16, matrix products round to that type while residual stream and norms stay
    float32. The patch embedding stays in full float32 on GPUs, where torch may round it to TF32.
    """
    dtype = getattr(torch, DTYPES[precision])
    with (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32"),
    ):
        yield


def state_digest(model: nn.Module, *, without: Collection[str] = ()) -> str:
    """SHA-256 over name, dtype, shape and bytes of every weight, in order of the names.

    Args:
        model: of which all weights count ...
        without: ... but those of these names.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in without:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
