"""How fast kinds of GPUs run a vision transformer, from published measurements.

The speed is that of matrix products of a whole forward pass in 16 bits, so multiply-adds of the
encoder divided by it give the time of a sample. It is an estimate: small models and convolutions
reach less, and nothing else may be slower than the GPU.
"""

from dataclasses import dataclass

VIT_B16_224_FLOPS = 2 * 17.58e9
"""FLOPs of ViT-B/16 at 224 pixels: 17.58 billion multiply-adds, as timm counts them."""

VIT_B16_384_FLOPS = 2 * 55.54e9
"""FLOPs of ViT-B/16 at 384 pixels."""

TIMM = "timm, results/benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv: 2843.0 images/s"
FASTER_TRANSFORMER = "NVIDIA FasterTransformer, docs/vit_guide.md, FP16, batch 32"


@dataclass(frozen=True)
class GpuSpeed:
    """The speed of a kind of GPU.

    Attributes:
        name: name of the GPU.
        peak: dense peak in 16 bits that the manufacturer states, in FLOP/s.
        flops_per_second: FLOP/s in a forward pass of ViT-B/16.
        source: where that speed was measured, or what it was scaled from.
        measured: whether the source measured this kind of GPU.
    """

    name: str
    peak: float
    flops_per_second: float
    source: str
    measured: bool


def _measured(name: str, peak: float, flops: float, *, per_second: float, source: str) -> GpuSpeed:
    return GpuSpeed(name, peak, flops * per_second, source, measured=True)


def _scaled(name: str, peak: float, base: GpuSpeed) -> GpuSpeed:
    """A GPU that reaches the same fraction of its peak as another one."""
    speed = base.flops_per_second / base.peak * peak
    return GpuSpeed(name, peak, speed, f"scaled from {base.name} by peak FLOP/s", measured=False)


T4 = _measured(
    "T4",
    65e12,
    VIT_B16_384_FLOPS,
    per_second=32 / 0.26317,
    source=f"{FASTER_TRANSFORMER}: 263.17 ms at 384 pixels",
)
A100 = _measured(
    "A100",
    312e12,
    VIT_B16_384_FLOPS,
    per_second=32 / 0.04391,
    source=f"{FASTER_TRANSFORMER}: 43.91 ms at 384 pixels",
)
RTX_4090 = _measured("RTX 4090", 165.2e12, VIT_B16_224_FLOPS, per_second=2843.0, source=TIMM)

GPU_SPEEDS = (
    T4,
    _scaled("L4", 121e12, T4),
    A100,
    RTX_4090,
    _scaled("H100 SXM", 989e12, A100),
    _scaled("H200", 989e12, A100),
)
"""Kinds of GPUs, in the order of the table."""
