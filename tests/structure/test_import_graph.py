"""The import graph of the packages is a tree of layers: no circle, at any level."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.repository import PACKAGES, imported_names, module_name, sources

MODULES = {module_name(package, file): file for package in PACKAGES for file in sources(package)}
"""Dotted name -> file, of every module of the packages."""


def imports(file: Path) -> set[str]:
    """The modules of ours that a file imports anywhere in it, also inside functions."""
    names = set(imported_names(ast.parse(file.read_text(encoding="utf-8"))))
    names |= {name.rpartition(".")[0] for name in names}  # of "module.attribute"
    return {name for name in names if name in MODULES and MODULES[name].name != "__init__.py"}


GRAPH = {name: imports(file) for name, file in MODULES.items() if file.name != "__init__.py"}


def layer(name: str) -> str:
    """The sub-package of a module; a module directly in a top-level package stands for itself."""
    parts = name.split(".")
    return ".".join(parts[:3]) if len(parts) > 3 else name


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_import_each_other_in_no_circle() -> None:
    assert circle(GRAPH) == []


def test_sub_packages_import_each_other_in_no_circle() -> None:
    layers: dict[str, set[str]] = {}
    for name, imported in GRAPH.items():
        others = {layer(one) for one in imported} - {layer(name)}
        layers.setdefault(layer(name), set()).update(others)
    assert circle(layers) == []


@pytest.mark.parametrize(
    ("graph", "expected"),
    [({"a": {"b"}, "b": {"c"}}, 0), ({"a": {"b"}, "b": {"c"}, "c": {"a"}}, 4)],
)
def test_a_circle_is_found(graph: dict[str, set[str]], expected: int) -> None:
    assert len(circle(graph)) == expected


def test_no_two_modules_share_a_file_name() -> None:
    shared = {"__init__.py", "__main__.py", "cli.py"}
    names = [file.name for file in MODULES.values() if file.name not in shared]
    assert sorted(names) == sorted(set(names))
