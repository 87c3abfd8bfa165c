"""CPU time of commands that run at the same time, with all processes that they start.

python -m bench.support.cpu_time '[["python", "-c", "pass"]]'
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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


def measure(commands: Sequence[Sequence[str]]) -> int:
    """Print the CPU seconds of commands and of all their descendants; the highest exit code."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    codes = [process.wait() for process in running]
    while True:
        try:
            os.wait()
        except ChildProcessError:  # none is left
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stdout.write(f"{used.ru_utime + used.ru_stime}\n")
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(measure(json.loads(sys.argv[1])))
