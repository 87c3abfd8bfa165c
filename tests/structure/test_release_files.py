"""Files that tools outside of Python read, compared with pyproject.toml and constraints.txt."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.repository import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_yaml(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return document


def package(requirement: str) -> str:
    """Name of the package that a requirement is about."""
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return found[0].lower()


def constrained(name: str) -> str:
    """The version of a package in constraints.txt."""
    found = re.search(rf"^{name}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_the_citation_has_the_version_and_the_license_of_the_project() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["references"][0]["url"] == "https://arxiv.org/abs/2303.11403"


def test_third_party_names_every_package_that_users_install() -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text().lower()
    extras = {
        requirement
        for name, requirements in PROJECT["optional-dependencies"].items()
        if name not in {"dev", "docs"}
        for requirement in requirements
    }
    names = {package(requirement) for requirement in (*PROJECT["dependencies"], *extras)}
    assert sorted(one for one in names if not re.search(rf"\b{re.escape(one)}\b", text)) == []


def test_commits_are_checked_by_the_ruff_of_the_constraints() -> None:
    (ruff,) = (
        one for one in read_yaml(".pre-commit-config.yaml")["repos"] if "ruff" in one["repo"]
    )
    assert ruff["rev"] == f"v{constrained('ruff')}"


def test_hosted_checks_run_the_script_on_every_supported_python() -> None:
    jobs = read_yaml(".github/workflows/check.yml")["jobs"]
    commands = [step.get("run", "") for step in jobs["check"]["steps"]]
    assert any("bash .ci/run" in command for command in commands)
    oldest, beyond = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    expected = [f"3.{minor}" for minor in range(int(oldest), int(beyond))]
    assert jobs["check"]["strategy"]["matrix"]["python"] == expected
    assert jobs["dependencies"]["strategy"]["matrix"]["versions"] == ["oldest", "newest"]


@pytest.mark.parametrize("name", ["bug", "idea", "result"])
def test_forms_of_issues_ask_for_something(name: str) -> None:
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    required = [
        field["id"] for field in form["body"] if field.get("validations", {}).get("required")
    ]
    assert required != []


def test_links_in_the_policy_files_lead_to_files() -> None:
    for name in ("SECURITY.md", "THIRD_PARTY.md"):
        for target in re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text()):
            assert (ROOT / target).is_file(), f"{name} links to {target}"
