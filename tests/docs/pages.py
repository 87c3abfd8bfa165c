"""The pages of the documentation, README included, for the tests that read them."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.repository import PACKAGES, ROOT, sources
from tools.site.generated import generated_pages

DOCS = ROOT / "docs"

WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
"""Pages that are written by hand."""

CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


@cache
def texts() -> dict[str, str]:
    """Path of every page below the root -> its Markdown, generated pages included."""
    written = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in WRITTEN}
    return {**written, **{f"docs/{name}": text for name, text in generated_pages().items()}}


def anchors(text: str) -> set[str]:
    """The addresses of the headings of a page, as GitHub and mkdocs.yml make them."""
    headings = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", text), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", plain(heading).lower()).replace(" ", "-") for heading in headings
    }


def plain(heading: str) -> str:
    """A heading without Markdown's marks."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")


@cache
def defined_names() -> set[str]:
    """Names of all classes, functions and constants of the packages."""
    names: set[str] = set()
    for package in PACKAGES:
        for file in sources(package):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names |= _names(node)
    return names


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


def code_blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """Language and content of the blocks of a page in these languages, in their order."""
    found = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found if language in languages]


def page_text(name: str) -> str:
    """The Markdown of a page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def exists(path: str, base: Path) -> bool:
    """Whether a path in a link leads to a file or to a generated page."""
    target = (base / path).resolve()
    return target.exists() or (
        target.is_relative_to(ROOT) and str(target.relative_to(ROOT)) in texts()
    )
