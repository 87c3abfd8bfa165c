"""Peak memory of a function, measured in a new process.

python -m bench.support.peak_memory bench.block_shuffle:stream_once '["s.zarr", 800000000, 512]'
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Peak:
    """Peak memory and result of a call.

    Attributes:
        nbytes: peak resident memory of the process in bytes.
        answer: return value of the function, which JSON can represent.
    """

    nbytes: int
    answer: Any


def peak_memory_of(entry: str, *arguments: object) -> Peak:
    """Call `module:function` in a new process.

    Raises:
        subprocess.CalledProcessError: the function raised; the traceback is on standard error.
    """
    words = [sys.executable, "-m", "bench.support.peak_memory", entry, json.dumps(arguments)]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def max_resident_bytes() -> int:
    """Peak resident memory of this process in bytes.

    `getrusage` is not used, because its value includes the memory of the forked parent.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main(entry: str, arguments: str) -> None:
    """Call the function; print peak memory and result as the last line of standard output."""
    module, name = entry.split(":")
    answer = getattr(import_module(module), name)(*json.loads(arguments))
    sys.stdout.write(json.dumps({"nbytes": max_resident_bytes(), "answer": answer}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
