"""One rule decides in which precision frozen models compute."""

import logging
from contextlib import nullcontext
from types import MappingProxyType

import pytest
import torch

from epalm import precision
from epalm.devices import pick_device
from epalm.errors import UsageError
from epalm.model.engine.language_model import PRECISIONS
from epalm.precision import DTYPES, best_precision, choose_precision, cpu_has_bf16


@pytest.fixture(autouse=True)
def _own_rule_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", cpu_has_bf16)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


def have_cpu(monkeypatch: pytest.MonkeyPatch, *flags: str, widest: str = "AVX512") -> None:
    """Let PyTorch find a CPU with these instruction sets."""
    actual = MappingProxyType({flag: True for flag in flags})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: actual)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: widest)


def have_gpu(monkeypatch: pytest.MonkeyPatch, *, bf16: bool) -> list[bool]:
    """Let PyTorch find a GPU; the list fills with whether emulation was to count as well."""
    emulation: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:  # noqa: FBT001, FBT002 - torch's own
        emulation.append(including_emulation)
        return bf16

    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    return emulation


@pytest.mark.parametrize(
    ("flags", "widest", "native"),
    [
        ((), "DEFAULT", False),
        (("avx2",), "AVX2", False),
        (("avx2", "avx512_f", "avx512_bw", "avx512_vnni"), "AVX512", False),
        (("avx512_bf16",), "AVX512", True),
        (("amx_bf16",), "AVX512", True),
        (("avx512_bf16", "amx_bf16"), "AVX2", False),  # ATEN_CPU_CAPABILITY=avx2
        (("neon", "bf16"), "SVE256", False),
    ],
)
def test_a_cpu_has_bf16_if_its_instructions_say_so_and_torch_may_use_them(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], widest: str, *, native: bool
) -> None:
    have_cpu(monkeypatch, *flags, widest=widest)
    assert cpu_has_bf16() == native
    assert best_precision("cpu") == ("bf16" if native else "fp32")


@pytest.mark.parametrize(
    ("name", "value", "native"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core_vnni", False),
        ("DNNL_MAX_CPU_ISA", "AVX512_CORE", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", True),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", True),
    ],
)
def test_onednn_can_be_forbidden_bf16_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, *, native: bool
) -> None:
    have_cpu(monkeypatch, "avx512_bf16")
    monkeypatch.setenv(name, value)
    assert cpu_has_bf16() == native


@pytest.mark.parametrize(("bf16", "chosen"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_computes_in_bf16_if_it_does_not_emulate_it_and_else_in_fp16(
    monkeypatch: pytest.MonkeyPatch, chosen: str, *, bf16: bool
) -> None:
    emulation = have_gpu(monkeypatch, bf16=bf16)
    assert best_precision("cuda:0") == chosen
    assert emulation == [False]


def test_auto_takes_what_was_recorded_and_else_the_best(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "epalm")
    have_cpu(monkeypatch, "avx512_bf16")
    assert choose_precision("auto", "cpu", recorded="fp32", where="old.zarr") == "fp32"
    assert choose_precision("auto", "cpu") == "bf16"
    assert choose_precision("fp32", "cpu", recorded="bf16", where="old.zarr") == "fp32"
    assert caplog.messages == [
        "precision fp32, as recorded in old.zarr",
        "precision bf16, chosen for cpu",
    ]


@pytest.mark.parametrize("asked", ["bf16", "int8", "int4"])
def test_bf16_without_native_support_is_warned_about_once_naming_fp32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    have_cpu(monkeypatch, "avx2", widest="AVX2")
    assert choose_precision(asked, "cpu") == asked
    (message,) = caplog.messages
    assert message.startswith(f"{asked} is slow here")
    assert "fp32 is faster" in message


def test_what_a_cpu_computes_natively_is_not_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    have_cpu(monkeypatch, "amx_bf16")
    choose_precision("bf16", "cpu")
    choose_precision("fp32", "cpu")
    assert caplog.messages == []


def test_fp16_on_a_cpu_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    choose_precision("fp16", "cpu")
    (message,) = caplog.messages
    assert message.startswith("fp16 is for GPUs and slow on most CPUs: fp32 is faster")


def test_a_precision_that_the_device_lacks_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"^meta cannot compute in bf16: give another --device"):
        choose_precision("bf16", "meta")


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="known are auto, fp32, bf16, fp16, int8, int4"):
        choose_precision("fp8", "cpu")


def test_the_language_models_precisions_are_those_that_can_be_chosen() -> None:
    assert {name: str(dtype) for name, dtype in PRECISIONS.items()} == {
        name: f"torch.{dtype}" for name, dtype in DTYPES.items()
    }


def test_the_automatic_device_is_cuda_then_mps_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == "mps"
    assert precision.best_precision("mps") == "fp16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda"
