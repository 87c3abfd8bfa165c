"""Which tests execute which lines, and how long each test takes."""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import coverage
import pytest

from tools.mutation.mutants import Mutant

OUTSIDE_OF_TESTS = ""
"""Context of lines that run at import, or in fixtures."""

OPTIONS = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Options of pytest in a process that has imported libraries before, plugins among them."""


@dataclass(frozen=True)
class CoveringTests:
    """The tests that execute each line.

    Attributes:
        lines: file -> line -> tests, as arguments of pytest; none for a line that runs, but not in
            the body of a test.
        seconds: duration of each test, all its parameters together.
    """

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def of(self, mutant: Mutant, *, limit: float) -> list[str]:
        """Tests that execute the statement of a mutant, of `limit` seconds together.

        The tests of the file come first, those of tests/../test_NAME.py, then the shortest. A
        statement that runs at import, whoever imports the file first, or in fixtures has all tests
        that execute another line of its file.
        """
        own = self.lines.get(mutant.file.as_posix(), {})
        first, last = mutant.statement
        executed = [line for line in range(first, last + 1) if line in own]
        if not executed:
            return []
        every = {test for tests in own.values() for test in tests}
        found = {test for line in executed for test in own[line]}
        if mutant.at_import or not found:
            found = every

        def order(test: str) -> tuple[bool, float, str]:
            return f"/test_{mutant.file.stem}.py::" not in test, self.seconds.get(test, 0), test

        chosen, total = list[str](), 0.0
        for test in sorted(found, key=order):
            total += self.seconds.get(test, 0)
            if chosen and total > limit:
                break
            chosen.append(test)
        return chosen

    def add(self, other: "CoveringTests") -> None:
        """Add what other tests execute, and their durations."""
        self.seconds.update(other.seconds)
        for name, lines in other.lines.items():
            own = self.lines[name]
            for line, tests in lines.items():
                own[line] = sorted({*own.get(line, []), *tests})

    def write(self, file: Path) -> None:
        """Write them as JSON."""
        file.write_text(json.dumps({"lines": self.lines, "seconds": self.seconds}))

    @classmethod
    def read(cls, file: Path) -> "CoveringTests":
        """Read what `write` wrote."""
        values = json.loads(file.read_text())
        lines = {
            name: {int(line): tests for line, tests in own.items()}
            for name, own in values["lines"].items()
        }
        return cls(lines, values["seconds"])


class _Durations:
    """A plugin of pytest that adds up the seconds of each test function."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401 - pytest's report
        """Add one phase of one test."""
        self.seconds[report.nodeid.partition("[")[0]] += report.duration


def measure(files: Sequence[Path], tests: Sequence[Path]) -> CoveringTests:
    """See which lines each test executes.

    Each file of tests runs in a forked process, because some tests end the recording: they set a
    trace function of their own, or compile.

    Args:
        files: source files.
        tests: folders and files of tests.

    Raises:
        RuntimeError: a test fails, so that it could not tell a mutant from the original.
    """
    together = CoveringTests({file.as_posix(): {} for file in files}, {})
    with TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        found = {
            path
            for each in tests
            for path in (each.rglob("test_*.py") if each.is_dir() else [each])
        }
        for file in sorted(found):
            process = os.fork()
            if process == 0:
                _measure_in_child(files, file, part)
            if os.waitpid(process, 0)[1]:
                raise RuntimeError(f"the tests of {file} do not pass")
            together.add(CoveringTests.read(part))
    return together


def _measure_in_child(files: Sequence[Path], tests: Path, out: Path) -> None:
    """Run a file of tests, write what it executes and end."""
    code = 1
    with suppress(BaseException):
        recorder = coverage.Coverage(
            data_file=None, include=[str(file.resolve()) for file in files]
        )
        recorder.set_option("run:dynamic_context", "test_function")
        durations = _Durations()
        recorder.start()
        code = int(pytest.main([str(tests), *OPTIONS], plugins=[durations]))
        recorder.stop()
        code = 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code  # all are slow
        data = recorder.get_data()
        lines = {
            file.as_posix(): {
                line: sorted({_argument(each) for each in contexts if each != OUTSIDE_OF_TESTS})
                for line, contexts in data.contexts_by_lineno(str(file.resolve())).items()
            }
            for file in files
        }
        CoveringTests(lines, dict(durations.seconds)).write(out)
        sys.stdout.flush()
    os._exit(code)


def _argument(context: str) -> str:
    """A name like tests.cache.test_spec.test_shape as an argument of pytest."""
    module, _, function = context.rpartition(".")
    return f"{module.replace('.', '/')}.py::{function}"
