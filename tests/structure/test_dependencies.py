"""constraints.txt against the ranges in pyproject.toml, and the script that writes it."""

import re
import tomllib
from importlib.metadata import version
from itertools import chain

import pytest
from packaging.requirements import Requirement

from tests.repository import ROOT
from tools import dependencies
from tools.dependencies import ALWAYS_TRUE, TORCH_RELEASES, _resolution, _shortened

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGES = [
    Requirement(text)
    for text in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]

BREAKING = ["torch", "torchvision", "torchaudio", "transformers", "zarr", "typer"]
"""Releases of these broke the project before."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_are_exact_versions_without_hosts() -> None:
    for pin in PINS:
        assert re.fullmatch(r"==[\w.+!]+", str(pin.specifier)), pin
        assert pin.url is None
    assert [line for line in LINES if "http" in line.split("==")[-1] or line.startswith("-")] == []


@pytest.mark.parametrize("wanted", RANGES, ids=str)
def test_every_dependency_has_an_exact_version_within_its_range(wanted: Requirement) -> None:
    pins = [pin for pin in PINS if normalized(pin.name) == normalized(wanted.name)]
    assert pins
    for pin in pins:
        (exact,) = pin.specifier
        assert wanted.specifier.contains(exact.version), f"{pin} is outside of {wanted}"


@pytest.mark.parametrize("name", BREAKING)
def test_dependencies_that_broke_before_have_an_upper_bound(name: str) -> None:
    (expected,) = [one for one in RANGES if one.name == name]
    assert any(part.operator in {"<", "<="} for part in expected.specifier)


def test_the_installed_version_is_within_its_range() -> None:
    wrong = {
        expected.name: version(expected.name)
        for expected in (Requirement(text) for text in PROJECT["dependencies"])
        if not expected.specifier.contains(version(expected.name))
    }
    assert wrong == {}


@pytest.mark.parametrize("release", TORCH_RELEASES)
def test_the_versions_that_go_with_a_torch_release_are_within_the_ranges(release: str) -> None:
    for name, text in zip(
        ("torch", "torchvision", "torchaudio"), TORCH_RELEASES[release], strict=True
    ):
        (expected,) = [one for one in RANGES if one.name == name]
        assert expected.specifier.contains(text)
    assert _resolution(release)[0] == f"torch=={TORCH_RELEASES[release][0]}"


def test_conditions_that_always_hold_are_left_out_of_constraints() -> None:
    always = " and ".join(ALWAYS_TRUE)
    assert _shortened(f"numpy==2.4.6 ; {always}") == "numpy==2.4.6\n"
    kept = "python_full_version < '3.12'"
    assert _shortened(f"numpy==2.4.6 ; {kept} and {always}") == f"numpy==2.4.6 ; {kept}\n"
    assert _shortened("numpy==2.4.6") == "numpy==2.4.6\n"


def test_arguments_after_dashes_go_to_pytest_also_after_an_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, str, list[str]]] = []
    monkeypatch.setattr(dependencies, "run_tests", lambda *given: calls.append(given) or 0)
    dependencies.main(["test", "newest", "--python", "3.13", "--", "-n", "2", "tests/model"])
    dependencies.main(["test", "oldest"])
    assert calls == [
        ("newest", "3.13", ["-n", "2", "tests/model"]),
        ("oldest", dependencies.OLDEST_PYTHON, []),
    ]
