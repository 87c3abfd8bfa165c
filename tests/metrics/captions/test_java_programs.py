"""How Java programs are run: their time limits, and what is said if they fail."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from epalm.errors import EpalmError
from epalm.metrics.captions import caption_metrics, meteor, spice
from epalm.metrics.captions.java import run_java


class LimitSeen(Exception):
    """Raised in the place of a program."""


def test_a_program_that_fails_is_an_error_with_its_exit_code() -> None:
    with pytest.raises(EpalmError, match="the parser ended with exit code 1: "):
        run_java(["false"], program="the parser", limit_seconds=60)


def test_the_time_limit_grows_with_the_number_of_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def run(*words: object, limit_seconds: float, **more: object) -> bytes:
        limits.append(limit_seconds)
        raise LimitSeen

    @contextmanager
    def program(limit_seconds: float) -> Iterator[None]:
        limits.append(limit_seconds)
        raise LimitSeen
        yield

    monkeypatch.setattr(caption_metrics, "run_java", run)
    monkeypatch.setattr(spice, "run_java", run)
    monkeypatch.setattr(spice, "check_spice", lambda: "java")
    monkeypatch.setattr(meteor, "_program", program)

    def limit_of(call: Callable[..., object], *arguments: object) -> float:
        with pytest.raises(LimitSeen):
            call(*arguments)
        return float(limits.pop())

    def rows(count: int) -> dict[str, list[str]]:
        return {str(number): ["a dog"] for number in range(count)}

    measured = {
        "tokenizer": lambda count: limit_of(caption_metrics._by_java, "java", ["a dog"] * count),
        "METEOR": lambda count: limit_of(meteor.score_meteor, rows(count), rows(count)),
        "SPICE": lambda count: limit_of(spice.score_spice, rows(count), rows(count)),
    }
    for name, limit in measured.items():
        assert limit(1) >= 60, name
        assert limit(1000) > limit(10) > limit(1), name
        assert limit(1001) - limit(1) <= 1000, f"{name}: more than a second for each caption"


def test_a_program_that_ends_within_a_line_has_broken_the_pipe() -> None:
    words: Sequence[str] = ["sh", "-c", "read line; echo $line; read line; printf cut"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        program = meteor._Program(process)
        assert program.query("SCORE ||| a") == "SCORE ||| a"
        with pytest.raises(BrokenPipeError):
            program.query("EVAL")
