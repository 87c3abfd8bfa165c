"""The folders of this repository, for the tests of its structure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

needs_checkout = pytest.mark.skipif(
    not (ROOT / "extract").is_dir(),
    reason="needs a checkout: the sdist has its packages below src/epalm",
)

PACKAGES = {
    path.parent.name: path.parent
    for path in ROOT.glob("*/__init__.py")
    if path.parent.name not in {"tests", "tools", "bench"}
} | {"epalm": ROOT / "src" / "epalm"}
"""Name below epalm -> folder; "epalm" itself is the root package."""


def sources(name: str) -> list[Path]:
    """The Python files of one package; the root package's links to the others are not followed."""
    folder = PACKAGES[name]
    files = folder.rglob("*.py") if name != "epalm" else (*folder.glob("*.py"), *_unlinked(folder))
    return sorted(files)


def _unlinked(folder: Path) -> Iterator[Path]:
    """The sources in real folders below `folder`."""
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            yield from child.rglob("*.py")


def module_name(name: str, file: Path) -> str:
    """Dotted name of one of the package's files, e.g. "epalm.tasks.types"."""
    parts = file.relative_to(PACKAGES[name]).with_suffix("").parts
    head = ("epalm",) if name == "epalm" else ("epalm", name)
    return ".".join(part for part in head + parts if part != "__init__")


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it; relative ones begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            head = "." * node.level + (node.module or "")
            yield from (f"{head}.{alias.name}" for alias in node.names)
