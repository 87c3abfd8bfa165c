"""CPU time of commands that run at the same time, with all processes that they start.

The kernel adds the time of a process to its parent's when the parent waits for it, and forgets it
if the parent ignores its children, as Ray's do. So all processes are also read while they run.

python -m bench.support.cpu_time '[["python", "-c", "pass"]]'
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

ROOT = Path(__file__).resolve().parents[2]

PR_SET_CHILD_SUBREAPER = 36
"""Option of prctl (linux/prctl.h): orphans among the descendants become children."""


def cpu_seconds(commands: Sequence[Sequence[str]]) -> float:
    """Run commands in a process of its own, and wait for everything that they have started.

    Raises:
        subprocess.CalledProcessError: a command failed; its messages are on standard error.
    """
    words = [sys.executable, "-m", "bench.support.cpu_time", json.dumps(commands)]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


TICKS = os.sysconf("SC_CLK_TCK")

SECONDS = 0.1
"""Pause between two readings: what a process uses after the last one is lost."""


@dataclass(frozen=True)
class ProcessTime:
    """A running process.

    Attributes:
        name: name of its program.
        started: when it started, in ticks since the machine did.
        seconds: CPU seconds, user and system, without children.
    """

    name: str
    started: int
    seconds: float


def descendants(process: int) -> dict[int, ProcessTime]:
    """Process id -> a process and all that it has started, if they still run."""
    found, parents = dict[int, ProcessTime](), dict[int, int]()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        fields = rest.split()
        seconds = (int(fields[11]) + int(fields[12])) / TICKS
        found[int(folder.name)] = ProcessTime(name, int(fields[19]), seconds)
        parents[int(folder.name)] = int(fields[1])
    wanted = {process}
    while more := {one for one, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return {one: found[one] for one in wanted if one in found}


class _Watch:
    """Reads the time of all descendants of this process, and keeps the last reading of each."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[int, int], float] = {}
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(SECONDS):
            processes = descendants(os.getpid())
            processes.pop(os.getpid(), None)
            self.seconds.update(
                ((number, one.started), one.seconds) for number, one in processes.items()
            )

    def total(self) -> float:
        """CPU seconds of all processes together; ends the readings."""
        self._ended.set()
        self._thread.join()
        return sum(self.seconds.values())


def measure(commands: Sequence[Sequence[str]]) -> int:
    """Print the CPU seconds of commands and of all their descendants; the highest exit code."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    watch = _Watch()
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    codes = [process.wait() for process in running]
    while True:
        try:
            os.wait()
        except ChildProcessError:  # none is left
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stdout.write(f"{max(used.ru_utime + used.ru_stime, watch.total())}\n")
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(measure(json.loads(sys.argv[1])))
