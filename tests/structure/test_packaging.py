"""pyproject.toml compared with the folders on disk."""

import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_packages

from epalm.metrics.metric_registry import METRICS
from epalm.tasks.task_registry import DATASETS, TASKS
from tests.repository import PACKAGES, ROOT, module_name, sources

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FOLDERS = {
    module_name(name, file): file.parent
    for name in PACKAGES
    for file in sources(name)
    if file.name == "__init__.py"
}
"""Package -> folder, as found on disk, sub-packages included."""


ENTRIES = {
    entry
    for name in PACKAGES
    for file in sources(name)
    for entry in re.findall(r'"(epalm\.[\w.]+:\w+)"', file.read_text(encoding="utf-8"))
}
"""Every "module:name" in the sources, whichever registry it stands in."""


def matching(pattern: str, folder: Path) -> list[Path]:
    """The files below `folder` that a package-data pattern stands for."""
    return [path for path in folder.glob(pattern) if path.is_file()]


def test_the_build_finds_every_package_on_disk() -> None:
    actual = find_packages(str(ROOT / SETUPTOOLS["packages"]["find"]["where"][0]))
    assert sorted(actual) == sorted(FOLDERS)


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {file.parent for name in PACKAGES for file in sources(name)}
    assert folders == set(FOLDERS.values())


def test_src_epalm_links_every_package_for_type_checkers() -> None:
    links = {path.name: path.resolve() for path in FOLDERS["epalm"].iterdir() if path.is_symlink()}
    assert links == {name: folder for name, folder in PACKAGES.items() if name != "epalm"}
    assert all(
        not path.readlink().is_absolute()
        for path in FOLDERS["epalm"].glob("*")
        if path.is_symlink()
    )


def test_ruff_skips_every_link_so_that_no_file_is_checked_twice() -> None:
    skipped = PYPROJECT["tool"]["ruff"]["extend-exclude"]
    assert sorted(skipped) == sorted(f"src/epalm/{name}" for name in PACKAGES if name != "epalm")


def test_bare_imports_of_our_folders_are_banned() -> None:
    banned = PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert sorted(banned) == sorted(name for name in PACKAGES if name != "epalm")


@pytest.mark.parametrize(
    ("package", "pattern"),
    [(name, one) for name, patterns in SETUPTOOLS["package-data"].items() for one in patterns],
)
def test_every_package_data_pattern_matches_a_file(package: str, pattern: str) -> None:
    assert matching(pattern, FOLDERS[package]) != []


def test_every_tracked_file_that_is_no_source_is_package_data() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("needs a git checkout to list tracked files")
    tracked = {ROOT / name for name in listed.stdout.decode().split("\0") if name}
    packed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in matching(pattern, FOLDERS[package])
    }
    data = {
        path
        for path in tracked
        if any(path.is_relative_to(folder) for folder in PACKAGES.values())
        and path.suffix != ".py"
        and path.is_file()
    }
    assert data - packed == set()


def test_registries_are_among_the_entries_found() -> None:
    assert {*DATASETS.values(), *TASKS.values(), *METRICS.values()} <= ENTRIES


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_every_registry_entry_can_be_imported(entry: str) -> None:
    module, _, attribute = entry.partition(":")
    assert callable(getattr(import_module(module), attribute))


@pytest.mark.parametrize("entry", sorted(PYPROJECT["project"]["scripts"].values()))
def test_every_command_can_be_imported(entry: str) -> None:
    module, _, attribute = entry.partition(":")
    assert callable(getattr(import_module(module), attribute))


def test_the_version_is_the_one_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PYPROJECT['project']['version']}]" in changelog
