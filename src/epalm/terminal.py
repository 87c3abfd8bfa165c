"""A terminal that text from files cannot take control of.

Names, ids and answers that are printed may come from files that somebody else wrote. They are
printed as they are, on one line, without rich's markup.
"""

import re
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.text import Text

NARROWEST = 20
"""Columns of a terminal that something can be read on."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # what terminals obey: escape sequences, carriage return, bell, ...
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # reorders text, or is invisible
    "\ud800-\udfff]"  # lone surrogates, which no output can encode
)

_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def visible(text: str) -> str:
    r"""The text on one line, with escapes such as `\u001b` for what a terminal would obey.

    Escaped are control characters, line ends, characters that reorder text or are invisible, and
    lone surrogates. The escapes are those of JSON: a document on one line keeps its meaning.
    """
    return _UNSAFE.sub(lambda it: _SHORT.get(it[0]) or f"\\u{ord(it[0]):04x}", text)


class PlainConsole(Console):
    """A console for which a `str` is data: no markup, no emoji codes, everything `visible`.

    Cells and titles of tables come through here too. Line breaks and styles are made with
    `rich.text.Text`.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - handed on to rich
        """Arguments are those of `rich.console.Console`."""
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Columns and lines; of a width that leaves no room for a word, 80 columns.

        rich prints nothing at all where the environment variable COLUMNS is 0.
        """
        found = super().size
        return found if found.width >= NARROWEST else ConsoleDimensions(80, found.height)

    def render_str(self, text: str, **settings: Any) -> Text:  # noqa: ANN401 - likewise
        """Every `str` that is printed or measured, alone or in a table, passes here."""
        return super().render_str(visible(text), **settings)
