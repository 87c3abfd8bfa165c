r"""Change the code in small ways, and see whether the tests notice.

    pip install coverage
    OMP_NUM_THREADS=1 python -m tools.mutation cache model/engine metrics --sample 100 \
        --tests tests/model/test_golden.py tests/model/test_epalm.py --out mutants

First the tests that mirror the packages run once, to see which of them execute which lines. Then
each mutant of a random sample runs the tests of its line, in a process of its own; nothing on the
disk is changed. A mutant is killed if a test fails or takes too long. If a test fails without the
change too, in the same order of tests, the check ends with an error that names it. Code that only
runs in processes that a test starts is the original there. Results are lines of OUT/results.jsonl;
re-run the same command to resume, for instance after a test was added (--again runs survivors
anew).
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from importlib.machinery import SourceFileLoader
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType
from typing import Any

import pytest

from tools.mutation.covering_tests import OPTIONS, CoveringTests, measure
from tools.mutation.mutants import Mutant, mutants_of, source_files

PRELOADED = ("numpy", "torch", "transformers", "timm", "h5py", "PIL.Image")
"""Libraries that are imported once for all mutants."""

LIMIT_SECONDS = 120.0
"""Duration of the tests that one mutant runs; of more only some run."""

SLOWER, EXTRA_SECONDS = 10, 60
"""A mutant with which a test takes ten times as long and a minute more has been noticed, too."""

TESTS = Path("tests")
"""Folder of the tests, which has a folder for each package."""

KILLED, SURVIVED, UNTESTED = "killed", "survived", "no test"


class _FirstFailure:
    """A plugin of pytest that writes the name of the first test that fails to a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401 - pytest's report
        """Write the name of a test that fails."""
        if report.failed and not self._file.exists():
            self._file.write_text(report.nodeid.partition("[")[0])


class _Alarm:
    """A plugin of pytest that ends the process if a test takes too long."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = seconds

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Set the alarm of one test."""
        usual = self._seconds.get(nodeid.partition("[")[0], 0)
        signal.setitimer(signal.ITIMER_REAL, SLOWER * usual + EXTRA_SECONDS)


def run(mutant: Mutant | None, seconds: Mapping[str, float]) -> tuple[str, str]:
    """Run tests on a mutant, or on the original, in a forked process.

    Args:
        mutant: the mutant; None for the original.
        seconds: test -> its usual duration, in the order in which they run.

    Returns:
        `KILLED` or `SURVIVED`, and the test that failed; "" if none did, or if it is unknown.
    """
    with TemporaryDirectory() as folder:
        failure = Path(folder) / "failure"
        result = _run(mutant, seconds, failure)
        return result, failure.read_text() if failure.is_file() else ""


def _run(mutant: Mutant | None, seconds: Mapping[str, float], failure: Path) -> str:
    process = os.fork()
    if process == 0:
        _run_in_child(mutant, seconds, failure)
    deadline = time.monotonic() + SLOWER * sum(seconds.values()) + EXTRA_SECONDS
    ended, status = 0, 0
    while not ended and time.monotonic() < deadline:  # a test may have set another alarm
        time.sleep(0.02)
        ended, status = os.waitpid(process, os.WNOHANG)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # also what a test has started and not ended
    if not ended:
        _, status = os.waitpid(process, 0)
    return KILLED if os.waitstatus_to_exitcode(status) else SURVIVED


def _run_in_child(mutant: Mutant | None, seconds: Mapping[str, float], failure: Path) -> None:
    """Run tests with the mutant in place of its file, and end with their exit code."""
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, EXTRA_SECONDS)  # to import the tests
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    if mutant is not None:
        _replace_source(mutant)
    code = 1
    with suppress(BaseException):
        plugins = [_FirstFailure(failure), _Alarm(seconds)]
        code = int(pytest.main([*seconds, "-x", *OPTIONS], plugins=plugins))
    os._exit(code)


def _replace_source(mutant: Mutant) -> None:
    """Let imports of the mutant's file read the mutant."""
    changed, original = mutant.file.resolve(), SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        if Path(self.path).resolve() == changed:
            return compile(mutant.source(), self.path, "exec")
        return original(self, fullname)

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010 - not of the type it inherits


class Runner:
    """Runs tests on mutants, and makes sure that those that fail pass without the change."""

    def __init__(self, covering: CoveringTests) -> None:
        """Run the tests that cover a mutant's statement."""
        self._covering = covering
        self._passed: list[list[str]] = []

    def result(self, mutant: Mutant) -> str:
        """`KILLED`, `SURVIVED` or `UNTESTED`.

        Raises:
            RuntimeError: a test fails after the tests before it, without any change.
        """
        tests = self._covering.of(mutant, limit=LIMIT_SECONDS)
        if not tests:
            return UNTESTED
        result, failed = run(mutant, self._seconds(tests))
        if failed in tests:
            self._check_original(tests[: tests.index(failed) + 1])
        return result

    def _check_original(self, tests: list[str]) -> None:
        """Raise an error if tests fail without any change; those that have passed are not rerun."""
        if any(passed[: len(tests)] == tests for passed in self._passed):
            return
        result, failed = run(None, self._seconds(tests))
        if result == KILLED:
            raise RuntimeError(
                f"{failed or tests[-1]} fails without any change too, after the tests "
                f"{' '.join(tests[:-1])}"
            )
        self._passed.append(tests)

    def _seconds(self, tests: Sequence[str]) -> dict[str, float]:
        return {test: self._covering.seconds.get(test, 0) for test in tests}


def sample_of(package: Path, count: int, seed: int) -> list[Mutant]:
    """A random sample of a package's mutants; a larger one contains a smaller one.

    A mutant is drawn by a hash of its file and its change, so that a sample keeps its mutants when
    other code changes.
    """
    places, occurrences = dict[Mutant, bytes](), Counter[str]()
    for mutant in (each for file in source_files([package]) for each in mutants_of(file)):
        change = f"{seed} {mutant.file.as_posix()} {mutant.before} -> {mutant.after}"
        places[mutant] = sha256(f"{change} {occurrences[change]}".encode()).digest()
        occurrences[change] += 1
    return sorted(places, key=places.__getitem__)[:count]


def covering_tests(packages: Sequence[Path], more: Sequence[Path], out: Path) -> CoveringTests:
    """What executes each line; read from the folder if it has been measured.

    Raises:
        RuntimeError: a test fails without any change.
    """
    file = out / "covering_tests.json"
    if not file.is_file():
        tests = [*(TESTS / package for package in packages), *more]
        measure(list(source_files(list(packages))), tests).write(file)
    return CoveringTests.read(file)


def check(packages: Sequence[Path], options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Run what has no result yet; package -> mutant -> result."""
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "results.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    known = {line["mutant"]: line["result"] for line in map(json.loads, lines)}
    runner = Runner(covering_tests(packages, options.tests, options.out))
    results: dict[str, dict[str, str]] = {}
    for package in packages:
        own = results.setdefault(package.as_posix(), {})
        for mutant in sample_of(package, options.sample, options.seed):
            result = known.get(mutant.name)
            if result is None or (options.again and result != KILLED):
                result = runner.result(mutant)
                with log.open("a") as file:
                    file.write(json.dumps({"mutant": mutant.name, "result": result}) + "\n")
            own[mutant.name] = result
    return results


def main(arguments: list[str]) -> int:
    """Check packages, list the mutants that live and print the shares of killed ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", nargs="+", type=Path)
    parser.add_argument(
        "--tests", nargs="*", type=Path, default=[], help="further tests, files or folders"
    )
    parser.add_argument("--sample", type=int, default=100, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--again", action="store_true", help="run mutants that lived again")
    options = parser.parse_args(arguments)
    for name in PRELOADED:
        import_module(name)
    for package, results in check(options.packages, options).items():
        for name, result in results.items():
            if result != KILLED:
                sys.stdout.write(f"{result}: {name}\n")
        killed = sum(result == KILLED for result in results.values())
        share = 100 * killed / max(len(results), 1)
        sys.stdout.write(f"{package}: {killed} of {len(results)} killed, {share:.0f} %\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
