"""METEOR 1.5 by its authors' Java program, in bounded time and memory."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import IO

import numpy as np

from epalm.errors import EpalmError
from epalm.metrics.captions.caption_metrics import Sentences
from epalm.metrics.captions.java import ENGLISH, find_java, java_environment
from epalm.metrics.intervals import bootstrap_intervals
from epalm.metrics.metric_registry import Scores, Values

_HEAP = "-Xmx2G"
"""As the COCO toolkit starts it."""

_LIMIT_SECONDS, _LIMIT_SECONDS_EACH = 300.0, 0.1
"""For loading its tables, which takes some 5 to 20 s, and for each caption and reference on top."""

_SEPARATOR = " ||| "


def score_meteor(references: Sentences, hypotheses: Sentences) -> Scores:
    """METEOR of tokenised captions.

    The value is that of the summed statistics of all captions, as the program defines it; per
    example stands the METEOR of that caption alone, whose mean is another number.

    Raises:
        MissingToolError: there is no working Java.
        EpalmError: the program failed or took too long.
    """
    sentences = len(hypotheses) + sum(map(len, references.values()))
    with _program(_LIMIT_SECONDS + _LIMIT_SECONDS_EACH * sentences) as program:
        found = [
            program.ask(_SEPARATOR.join(["SCORE", *references[row], _cleaned(said)]))
            for row, (said,) in hypotheses.items()
        ]
        each = program.evaluate(found)
        statistics = np.array([line.split() for line in found], dtype=np.float64)
        total = _scores(program, statistics.sum(axis=0, keepdims=True))
        interval = bootstrap_intervals(statistics, lambda sums: _scores(program, sums))
    return Scores(
        values={"METEOR": float(total[0, 0])},
        per_example={"METEOR": np.array(each)},
        headline="METEOR",
        intervals={"METEOR": interval[0]},
    )


class _Program:
    """The running program: a line in, lines out."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def ask(self, line: str) -> str:
        """Give it a line and return the next one of its output."""
        self.tell(line)
        return self.hear()

    def tell(self, line: str) -> None:
        """Give it a line."""
        stdin = _stdin(self.process)
        stdin.write(line.encode("utf-8", errors="replace") + b"\n")
        stdin.flush()

    def hear(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise BrokenPipeError
        return line.decode("utf-8").strip()

    def evaluate(self, statistics: Sequence[str]) -> list[float]:
        """A score for each line of statistics."""
        self.tell(_SEPARATOR.join(["EVAL", *statistics]))
        scores = [float(self.hear()) for _ in statistics]
        self.hear()  # that of all together
        return scores


def _stdin(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


@contextmanager
def _program(limit_seconds: float) -> Iterator[_Program]:
    from pycocoevalcap.meteor import meteor

    jar = Path(meteor.__file__).with_name(meteor.METEOR_JAR)
    command = [find_java(), *ENGLISH, _HEAP, "-jar", str(jar)]
    command += ["-", "-", "-stdio", "-l", "en", "-norm"]
    with (
        TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=java_environment(),
        ) as process,
    ):
        watch = Timer(limit_seconds, process.kill)
        watch.start()
        try:
            yield _Program(process)
        except (BrokenPipeError, ValueError) as error:
            watch.cancel()
            process.kill()
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip()[-500:]
            raise EpalmError(
                f"the METEOR program failed or was stopped after {limit_seconds:.0f} s: {said}"
            ) from error
        finally:
            watch.cancel()
            process.kill()
            with suppress(BrokenPipeError):
                _stdin(process).close()


def _scores(program: _Program, sums: Values) -> Values:
    """(R, S) sums of statistics -> (R, 1) scores, by the program itself."""
    lines = [" ".join(f"{number:.0f}" for number in row) for row in sums]
    return np.array(program.evaluate(lines))[:, None]


def _cleaned(said: str) -> str:
    """The caption without the program's separator, as the toolkit cleans it."""
    return said.replace("|||", "").replace("  ", " ")
