"""Every message on the page about errors is one that the code writes."""

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import page_text
from tests.repository import PACKAGES, needs_checkout, sources

pytestmark = needs_checkout

ROWS = re.findall(r"^\| (.+?) \| ", page_text("how_to/troubleshooting.md"), re.MULTILINE)
MESSAGES = sorted({text for row in ROWS for text in re.findall(r"`([^`]+)`", row)})
OF_OTHERS = {"undefined symbol", "import torchaudio"}
"""Messages of the dynamic linker, and statements."""

WRITTEN_NAMES = {"STORE.incomplete.txt"}
"""Files whose names are made of a store's."""


@cache
def literals() -> str:
    """All texts in the sources, those with values in between included."""
    texts: list[str] = []
    for package in PACKAGES:
        for file in sources(package):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    texts.append("".join(map(_text, node.values)))
    return "\n".join(texts)


def _text(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else "{}"


def test_the_page_has_messages() -> None:
    assert len(MESSAGES) > 20


@pytest.mark.parametrize("message", sorted({*MESSAGES} - OF_OTHERS - WRITTEN_NAMES))
def test_a_message_is_one_that_the_code_writes(message: str) -> None:
    assert message in literals()
