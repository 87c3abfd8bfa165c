"""The words of the project: names, docstrings, messages and documents in the field's terms."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository import ROOT

FOLDERS = (
    *("api", "ask", "bench", "cache", "demo", "docs", "evaluate", "extract", "hub", "integrations"),
    *("media", "metrics", "model", "serve", "src", "tasks", "tests", "tools", "train"),
)

BRITISH = re.compile(
    r"colour|behaviour|favour|neighbour|labelled(?!by)|modelling|\bgrey|optimiser|(?:initial|normal"
    r"|organ|quant|recogn|serial|summar|synchron|synthes|token|util)is(?:e|ing|ation)",
    re.IGNORECASE,
)
"""Spellings that differ from those of the libraries around us."""

HOME_MADE = re.compile(
    r"\b(?:likewise|learnt|mends?|mended|told by|so many|this part of|goes? on with|surer"
    r"|the released code|closed list|answers otherwise|carried over|rearranged weights)\b",
    re.IGNORECASE,
)
"""Words that an engineer would not use."""

FRAGMENT = re.compile(r" +\w+: (?:of|see|likewise|its|as for)\b")
"""A line that describes an attribute, argument or error by a fragment, e.g. "seed: of all"."""

ALLOWED = re.compile(
    r"normalise|normalised_(?:match|accuracy)|neighbour\b|quantised = |16-bit grey|first words"
    r"|tokenised_hypotheses",
)
"""Keys and texts in files of earlier versions or of other projects."""

EXAMPLES = {
    "spelling": 'colour = "red"',
    "home-made": '"""Likewise."""',
    "fragment": "        seed: of everything random.",
}


def faults(text: str) -> Iterator[str]:
    """Every line of a text with a word that is not ours."""
    for number, line in enumerate(text.splitlines(), start=1):
        kept = ALLOWED.sub("", line)
        if BRITISH.search(kept) or HOME_MADE.search(kept) or FRAGMENT.match(kept):
            yield f"{number}: {line.strip()}"


def texts() -> Iterator[Path]:
    """Sources, templates and documents, without the files of earlier versions."""
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml")
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            old = "compatibility/files" in path.as_posix()
            if path.suffix in {".py", ".md", ".j2", ".toml"} and not old and path != Path(__file__):
                yield path


def test_sources_and_documents_use_the_terms_of_the_field() -> None:
    actual = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path in texts()
        for fault in faults(path.read_text(encoding="utf-8"))
    ]
    assert actual == []


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_word_that_is_not_ours_is_found(kind: str) -> None:
    assert len(list(faults(EXAMPLES[kind]))) == 1
