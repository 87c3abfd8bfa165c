"""Help and mistakes are answered without the libraries that take seconds to import."""

import json
from pathlib import Path

import pytest

from bench import startup
from bench.startup import HEAVY, HELP, MISTAKES, Ending

ASKED = [f"{command} --help" for command in HELP]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    startup.make_scratch_files(folder)
    return folder


@pytest.fixture(scope="module")
def ended(place: Path) -> dict[str, tuple[Ending, str]]:
    """Every command line of the table, in one process, which is quicker than one for each."""
    lines = [*ASKED, *MISTAKES]
    actual, printed = startup.endings(lines, place)
    assert len(actual) == len(lines), printed
    return {line: (ending, printed) for line, ending in zip(lines, actual, strict=True)}


@pytest.mark.parametrize("line", ASKED)
def test_help_is_shown_without_importing_heavy_libraries(
    ended: dict[str, tuple[Ending, str]], line: str
) -> None:
    assert ended[line][0] == Ending(0, ())


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_reported_without_importing_heavy_libraries(
    ended: dict[str, tuple[Ending, str]], line: str
) -> None:
    ending, printed = ended[line]
    assert ending.code > 0
    assert ending.heavy == ()
    assert MISTAKES[line] in " ".join(printed.split())


def test_an_import_of_a_heavy_library_is_detected(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "HEAVY", (*HEAVY, "numpy"))
    actual, _ = startup.endings(["epalm-extract --help", "epalm-extract verify nope.zarr"], place)
    assert [one.heavy for one in actual] == [(), ("numpy",)]


def test_the_benchmark_reports_cpu_seconds(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    startup.main(rounds=1, only="epalm-demo --help", folder=tmp_path, json=file)
    (line,) = json.loads(file.read_text())["lines"]
    assert line["unit"] == "CPU s"
    assert line["value"] > 0.02
