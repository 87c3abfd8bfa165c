"""Choice of the precision in which frozen models compute, for extraction and training."""

import logging
import os
from typing import Literal, get_args

from epalm.errors import UsageError

AUTO = "auto"
"""Lets `choose_precision` decide."""

DTYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "int8": "bfloat16",
    "int4": "bfloat16",
}
"""Precision -> name of the torch dtype of its matrix products; quantized weights are unpacked."""

PrecisionName = Literal["auto", "fp32", "bf16", "fp16", "int8", "int4"]

NAMES: tuple[str, ...] = get_args(PrecisionName)
"""Valid values of --precision: `AUTO` and the keys of `DTYPES`."""

ISAS_WITHOUT_BF16 = {
    "sse41",
    "avx",
    "avx2",
    "avx2_vnni",
    "avx2_vnni_2",
    "avx512_core",
    "avx512_core_vnni",
}
"""Values of ONEDNN_MAX_CPU_ISA that forbid oneDNN every bfloat16 product (its manual, "CPU
dispatcher control"); it ignores case and unknown values."""

logger = logging.getLogger(__name__)


def choose_precision(requested: str, device: str, *, recorded: str = "", where: object = "") -> str:
    """Choose the precision for a device, and log the choice.

    Args:
        requested: a key of `DTYPES`, or `AUTO` for the recorded one, else for `best_precision`.
        device: name of the device as torch spells it.
        recorded: precision of the store or run that is resumed; empty if there is none.
        where: path of that store or run, for the log.

    Raises:
        UsageError: an unknown precision, or one that the device cannot compute in.
    """
    chosen = requested
    if requested == AUTO and recorded:
        chosen = recorded
        logger.info("precision %s, as recorded in %s", chosen, where)
    elif requested == AUTO:
        chosen = best_precision(device)
        logger.info("precision %s, chosen for %s", chosen, device)
    if chosen not in DTYPES:
        raise UsageError(f"precision {chosen!r} is unknown; known are {', '.join(NAMES)}")
    if not computes_in(chosen, device):
        raise UsageError(
            f"{device} cannot compute in {chosen}: give another --device, or another --precision "
            "with --fresh or a name of its own"
        )
    if reason := why_slow(chosen, device):
        logger.warning("%s: fp32 is faster, if it fits into memory", reason)
    return chosen


def best_precision(device: str) -> str:
    """Return the fastest precision that a device has natively.

    Returns:
        "bf16" on GPUs and CPUs with native bfloat16 products, "fp16" on other GPUs, else "fp32".
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if native else "fp16"
    if kind == "mps":
        return "fp16"
    return "bf16" if kind == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether this CPU has native bfloat16 products (avx512_bf16 or AMX) that libraries may use.

    ATEN_CPU_CAPABILITY can disable them in PyTorch, ONEDNN_MAX_CPU_ISA in oneDNN.
    """
    import torch

    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")):
        return False
    limits = {os.environ.get(f"{name}_MAX_CPU_ISA", "").lower() for name in ("ONEDNN", "DNNL")}
    widest = torch.backends.cpu.get_cpu_capability()
    return widest.startswith("AVX512") and not limits & ISAS_WITHOUT_BF16


def computes_in(precision: str, device: str) -> bool:
    """Whether a device supports matrix products in the dtype of a precision, natively or not."""
    import torch

    try:
        ones = torch.ones(2, 2, dtype=getattr(torch, DTYPES[precision]), device=device)
        return bool((ones @ ones).sum().item() == ones.numel() * 2)
    except (RuntimeError, TypeError, NotImplementedError):
        return False


def why_slow(precision: str, device: str) -> str:
    """Explain in a clause why a CPU is slow in a precision; empty if it is not slow or no CPU."""
    import torch

    dtype = DTYPES[precision]
    if torch.device(device).type != "cpu" or dtype == "float32":
        return ""
    if dtype == "float16":
        return f"{precision} is for GPUs and slow on most CPUs"
    slow = f"{precision} is slow here, this CPU has no native bfloat16 products"
    return "" if cpu_has_bf16() else slow
