"""METEOR 1.5, computed by its authors' Java program with limited time and memory."""

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
"""Maximum heap size, as in the COCO toolkit."""

_LIMIT_SECONDS, _LIMIT_SECONDS_EACH = 300.0, 0.1
"""Time limit: for loading the program's tables, which takes 5 to 20 s, plus so much per caption and
reference."""

_SEPARATOR = " ||| "


def score_meteor(references: Sentences, hypotheses: Sentences) -> Scores:
    """METEOR of tokenized captions.

    The value is the program's score of the summed statistics of all captions. The scores per
    example are those of single captions; the value is not their mean.

    Raises:
        MissingToolError: Java does not work.
        EpalmError: the program failed or exceeded the time limit.
    """
    sentences = len(hypotheses) + sum(map(len, references.values()))
    with _program(_LIMIT_SECONDS + _LIMIT_SECONDS_EACH * sentences) as program:
        lines = [
            program.query(_SEPARATOR.join(["SCORE", *references[row], _cleaned(hypothesis)]))
            for row, (hypothesis,) in hypotheses.items()
        ]
        per_example = program.evaluate(lines)
        statistics = np.array([line.split() for line in lines], dtype=np.float64)
        total = _scores(program, statistics.sum(axis=0, keepdims=True))
        interval = bootstrap_intervals(statistics, lambda sums: _scores(program, sums))
    return Scores(
        values={"METEOR": float(total[0, 0])},
        per_example={"METEOR": np.array(per_example)},
        headline="METEOR",
        intervals={"METEOR": interval[0]},
    )


class _Program:
    """The running program, which reads and writes lines."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def query(self, line: str) -> str:
        """Write a line to the program and read one line of its output."""
        self.write_line(line)
        return self.read_line()

    def write_line(self, line: str) -> None:
        """Write a line to the program's standard input."""
        stdin = _stdin(self.process)
        stdin.write(line.encode("utf-8", errors="replace") + b"\n")
        stdin.flush()

    def read_line(self) -> str:
        """Read a line from the program's standard output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise BrokenPipeError
        return line.decode("utf-8").strip()

    def evaluate(self, statistics: Sequence[str]) -> list[float]:
        """The score of each line of statistics."""
        self.write_line(_SEPARATOR.join(["EVAL", *statistics]))
        scores = [float(self.read_line()) for _ in statistics]
        self.read_line()  # the score of all together
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
        TemporaryFile() as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=java_environment(),
        ) as process,
    ):
        timer = Timer(limit_seconds, process.kill)
        timer.start()
        try:
            yield _Program(process)
        except (BrokenPipeError, ValueError) as error:
            timer.cancel()
            process.kill()
            stderr.seek(0)
            message = stderr.read().decode(errors="replace").strip()[-500:]
            raise EpalmError(
                f"the METEOR program failed or was stopped after {limit_seconds:.0f} s: {message}"
            ) from error
        finally:
            timer.cancel()
            process.kill()
            with suppress(BrokenPipeError):
                _stdin(process).close()


def _scores(program: _Program, sums: Values) -> Values:
    """(R, S) sums of statistics -> (R, 1) scores, computed by the program."""
    lines = [" ".join(f"{number:.0f}" for number in row) for row in sums]
    return np.array(program.evaluate(lines))[:, None]


def _cleaned(caption: str) -> str:
    """The caption without the program's separator, removed as in the toolkit."""
    return caption.replace("|||", "").replace("  ", " ")
