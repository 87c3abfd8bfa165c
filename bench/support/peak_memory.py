"""What a function takes of memory at most, in a fresh process that does nothing else.

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
    """What became of a call.

    Attributes:
        nbytes: largest resident memory of the process.
        answer: what the function returned; fit for JSON.
    """

    nbytes: int
    answer: Any


def peak_of(entry: str, *arguments: object) -> Peak:
    """Call `module:function` in a process of its own.

    Raises:
        subprocess.CalledProcessError: the function raised; its traceback is on standard error.
    """
    words = [sys.executable, "-m", "bench.support.peak_memory", entry, json.dumps(arguments)]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def largest_resident() -> int:
    """Bytes, since this program was started.

    Not `getrusage`: what it tells begins with the memory of the parent that was forked.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main(entry: str, arguments: str) -> None:
    """Call the function and write peak and answer as the last line of standard output."""
    module, name = entry.split(":")
    answer = getattr(import_module(module), name)(*json.loads(arguments))
    sys.stdout.write(json.dumps({"nbytes": largest_resident(), "answer": answer}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
