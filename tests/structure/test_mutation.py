"""The check of the tests: what it changes, and that it notices tests that notice nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT
from tools.mutation.__main__ import sample_of
from tools.mutation.covering_tests import CoveringTests
from tools.mutation.mutants import Mutant, mutants_of

SOURCE = '''"""Grades, at least 1."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LIMIT: int = 10


def grade(points: int | None, bonus: float = 0.5) -> str:
    """The grade, 3 at most."""
    if points is None or not bonus:
        raise ValueError(f"{points + 1} points")
    return "ä" * 2 if points >= LIMIT else "b"
'''


def test_the_changes_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "grades.py"
    file.write_text(SOURCE)
    found = {(mutant.line, mutant.before, mutant.after) for mutant in mutants_of(file)}
    assert found == {
        (8, "10", "(11)"),
        (11, "0.5", "(1.5)"),
        (13, "points is None or not bonus", "(not (points is None or not bonus))"),
        (13, "points is None or not bonus", "(points is None and (not bonus))"),
        (13, "points is None", "(points is not None)"),
        (13, "not bonus", "(bonus)"),
        (15, '"ä" * 2 if points >= LIMIT else "b"', "(None)"),
        (15, "2", "(3)"),
        (15, "points >= LIMIT", "(points > LIMIT)"),
    }
    statements = {mutant.line: mutant.statement for mutant in mutants_of(file)}
    assert statements == {8: (8, 8), 11: (11, 11), 13: (13, 13), 15: (15, 15)}
    places = {mutant.before: (mutant.column, mutant.at_import) for mutant in mutants_of(file)}
    assert places["10"] == (14, True)
    assert places["0.5"] == (46, True)
    assert places["not bonus"] == (26, False)
    assert places["2"] == (18, False)
    changed = next(mutant for mutant in mutants_of(file) if mutant.before == "2")
    assert changed.source() == SOURCE.replace("* 2", "* (3)")


def test_no_two_changes_have_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "places.py"
    file.write_text("FIRST, SECOND = 1, 1\n")
    assert [mutant.name.rpartition("places.py:")[2] for mutant in mutants_of(file)] == [
        "1:17: 1 -> (2)",
        "1:20: 1 -> (2)",
    ]


def test_a_sample_keeps_its_mutants_when_other_code_changes(tmp_path: Path) -> None:
    file = tmp_path / "package" / "numbers.py"
    file.parent.mkdir()
    numbers = [f"NUMBER_{value} = {value}\n" for value in range(100)]

    def sampled(lines: list[str], count: int) -> set[str]:
        file.write_text("".join(lines))
        sample = sample_of(file.parent, count, seed=0)
        assert len(sample) == count
        return {mutant.before for mutant in sample}

    small = sampled(numbers, 20)
    assert small < sampled(numbers, 40)
    assert not small <= set(map(str, range(20)))
    more = sampled(["import os\n", "LIMIT = 1000\n", *numbers[:50], "\n", *numbers[50:]], 21)
    assert len(small & more) >= 20


def changed_line(file: str, statement: tuple[int, int], *, at_import: bool = False) -> Mutant:
    return Mutant(Path(file), statement[0], 1, statement, at_import, "1", "2", 0, 1)


def test_a_statement_has_its_own_tests_then_the_shortest(tmp_path: Path) -> None:
    lines = {"a.py": {1: [], 2: ["slow", "quick"], 3: ["tests/test_a.py::own"]}}
    seconds = {"slow": 5.0, "quick": 1.0, "tests/test_a.py::own": 9.0}
    CoveringTests(lines, seconds).write(tmp_path / "tests.json")
    covering = CoveringTests.read(tmp_path / "tests.json")
    second = changed_line("a.py", (2, 2))
    assert covering.of(second, limit=60) == ["quick", "slow"]
    assert covering.of(second, limit=3) == ["quick"]
    assert covering.of(second, limit=0) == ["quick"]
    every = ["tests/test_a.py::own", "quick", "slow"]
    assert covering.of(changed_line("a.py", (1, 1)), limit=60) == every
    assert covering.of(changed_line("a.py", (2, 5)), limit=60) == every
    assert covering.of(changed_line("a.py", (4, 4)), limit=60) == []
    assert covering.of(changed_line("b.py", (1, 1)), limit=60) == []


def test_a_statement_that_runs_at_import_has_the_tests_of_the_whole_file() -> None:
    lines = {"a.py": {1: ["imports"], 2: [], 3: ["imports", "calls"]}}
    covering = CoveringTests(lines, {"imports": 2.0, "calls": 1.0})
    assert covering.of(changed_line("a.py", (1, 1)), limit=60) == ["imports"]
    assert covering.of(changed_line("a.py", (1, 1), at_import=True), limit=60) == [
        "calls",
        "imports",
    ]


def points(folder: Path) -> Path:
    """A package with a function, and the file for its tests."""
    (folder / "points").mkdir()
    (folder / "tests" / "points").mkdir(parents=True)
    code = "def pay(hours):\n    return hours * 10\n\n\ndef unused():\n    return 1\n"
    (folder / "points" / "pay.py").write_text(code)
    for package in ("points", "tests", "tests/points"):
        (folder / package / "__init__.py").write_text("")
    return folder / "tests" / "points" / "test_pay.py"


def checked(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the check on the package in a folder."""
    words = [sys.executable, "-m", "tools.mutation", "points", "--out", "out", *options]
    path = {"PYTHONPATH": f"{ROOT}:{folder}"}
    return subprocess.run(words, cwd=folder, env=path, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_mutant_lives_where_no_test_notices_it(tmp_path: Path) -> None:
    test = points(tmp_path)
    weak = "from points.pay import pay\n\ndef test_pay():\n    assert pay(2) > 0\n"
    test.write_text(weak)

    def lived(*options: str) -> set[str]:
        done = checked(tmp_path, *options)
        assert done.returncode == 0, done.stderr
        lines = (line.partition(" killed, ") for line in done.stdout.splitlines())
        listed = {line for line, found, _ in lines if not found and ": points/" in line}
        assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) >= 5
        return listed

    unused = {"no test: points/pay.py:6:12: 1 -> (2)", "no test: points/pay.py:6:12: 1 -> (None)"}
    more = {"survived: points/pay.py:2:12: hours * 10 -> (hours + 10)"}
    more |= {"survived: points/pay.py:2:20: 10 -> (11)"}
    assert lived() == unused | more
    test.write_text(weak.replace("> 0", "== 20"))
    assert lived() == unused | more, "known results are kept"
    assert lived("--again") == unused
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert "killed" in {json.loads(line)["result"] for line in lines[-4:]}


@pytest.mark.slow
def test_a_test_that_fails_after_others_without_any_change_kills_no_mutant(tmp_path: Path) -> None:
    """The check runs the quick test first, which makes the other one fail."""
    points(tmp_path).write_text(
        "from time import sleep\n\nfrom points.pay import pay\n\nPAID = []\n\n\n"
        "def test_nothing_is_paid_at_first():\n    pay(2)\n    sleep(0.5)\n    assert not PAID\n"
        "\n\ndef test_paying():\n    PAID.append(pay(2))\n"
    )
    done = checked(tmp_path)
    test = "tests/points/test_pay.py::test_"
    message = f"{test}nothing_is_paid_at_first fails without any change too, after the tests"
    assert f"RuntimeError: {message} {test}paying\n" in done.stderr
    results = (tmp_path / "out" / "results.jsonl").read_text()
    assert "killed" not in results
