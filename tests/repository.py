"""The folders of this repository, for the tests of its structure."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = {path.parent.name: path.parent for path in ROOT.glob("*/__init__.py")} | {
    "epalm": ROOT / "src" / "epalm"
}
"""Name below epalm -> folder; "epalm" itself is the root package. Tests are no package of it."""
del PACKAGES["tests"]


def sources(name: str) -> list[Path]:
    """The Python files of one package; the root package's links to the others are not followed."""
    folder = PACKAGES[name]
    return sorted(folder.glob("*.py") if name == "epalm" else folder.rglob("*.py"))


def module_name(name: str, file: Path) -> str:
    """Dotted name of one of the package's files, e.g. "epalm.tasks.records"."""
    parts = file.relative_to(PACKAGES[name]).with_suffix("").parts
    head = ("epalm",) if name == "epalm" else ("epalm", name)
    return ".".join(part for part in head + parts if part != "__init__")
