"""All three commands on a CPU with AVX2 only, and with all that this machine's CPU has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def machine_has_bf16() -> bool:
    """As Linux says, independently of PyTorch."""
    cpuinfo = Path("/proc/cpuinfo")
    words = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    return bool({"avx512_bf16", "amx_bf16"} & set(words))


@pytest.mark.slow
@pytest.mark.parametrize("limits", [AVX2, {}], ids=["avx2", "everything"])
def test_every_precision_extracts_trains_and_evaluates(
    tmp_path: Path, limits: dict[str, str]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in LIMITS}
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.precision_child", str(tmp_path)],
        cwd=REPOSITORY,
        env=environment | limits,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    native = machine_has_bf16() and not limits
    assert result["native"] == native
    for kind in (result["stores"], result["runs"]):
        assert [kind[asked]["recorded"] for asked in ("fp32", "bf16", "auto")] == [
            "fp32",
            "bf16",
            "bf16" if native else "fp32",
        ]
        assert [kind[asked]["warnings"] for asked in ("fp32", "auto")] == [0, 0]
        assert kind["bf16"]["warnings"] == (0 if native else 1)
    stores, runs = result["stores"], result["runs"]
    assert stores["bf16"]["norm"] == pytest.approx(stores["fp32"]["norm"], rel=0.01)
    assert runs["bf16"]["loss"] == pytest.approx(runs["fp32"]["loss"], rel=0.05)
    assert runs["bf16"]["evaluation warnings"] == (0 if native else 1)
