"""Peak memory of a function, measured in a new process.

python -m bench.support.peak_memory bench.block_shuffle:stream_once '["s.zarr", 800000000, 512]'
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Peak:
    """Peak memory and result of a call.

    Attributes:
        nbytes: peak resident memory of the process in bytes, mapped files included.
        answer: return value of the function, which JSON can represent.
        own_nbytes: peak of its own memory, without mapped files, sampled every few milliseconds.
    """

    nbytes: int
    answer: Any
    own_nbytes: int


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
    return _status_bytes("VmHWM")


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    return _status_bytes("VmRSS")


def own_bytes() -> int:
    """Resident memory of this process in bytes that is no part of a file."""
    return _status_bytes("RssAnon")


def _status_bytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))


class AnonymousPeak:
    """Peak of the memory that is not that of mapped files, which the kernel can drop at any time.

    The kernel counts it, but not its peak, so it is read every few milliseconds.
    """

    SECONDS = 0.005

    def __init__(self) -> None:
        self.nbytes = 0
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "AnonymousPeak":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        with Path("/proc/self/status").open(encoding="utf-8") as status:
            while not self._ended.wait(self.SECONDS):
                status.seek(0)
                line = next(line for line in status if line.startswith("RssAnon:"))
                self.nbytes = max(self.nbytes, 1024 * int(line.split()[1]))


def main(entry: str, arguments: str) -> None:
    """Call the function; print peak memory and result as the last line of standard output."""
    module, name = entry.split(":")
    function = getattr(import_module(module), name)
    with AnonymousPeak() as peak:
        answer = function(*json.loads(arguments))
    own = max(peak.nbytes, own_bytes())
    fields = {"nbytes": max_resident_bytes(), "answer": answer, "own_nbytes": own}
    sys.stdout.write(json.dumps(fields) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
