"""A console that escapes control characters.

Names, ids and answers may come from files of strangers. They are printed literally, on one line,
without rich's markup.
"""

import re
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.text import Text

NARROWEST = 20
"""Minimum number of columns of a usable terminal."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: escape sequences, carriage return, bell, ...
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # reorders text, or is invisible
    "\ud800-\udfff]"  # lone surrogates, which no output can encode
)

_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def visible(text: str) -> str:
    r"""Escape control characters as in JSON, e.g. `\u001b`, so that the text is on one line.

    Line ends, characters that reorder text or are invisible, and lone surrogates are escaped, too.
    A JSON document on one line keeps its meaning.
    """
    return _UNSAFE.sub(lambda match: _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}", text)


class PlainConsole(Console):
    """A console that prints a `str` literally: no markup or emoji codes, and `visible`.

    So it does in cells and titles of tables. Use `rich.text.Text` for line breaks and styles.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - passed to rich
        """Create a console; the arguments are those of `rich.console.Console`."""
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Columns and lines of the terminal; 80 columns if it reports fewer than `NARROWEST`.

        rich prints nothing at all if the environment variable COLUMNS is 0.
        """
        dimensions = super().size
        wide = dimensions.width >= NARROWEST
        return dimensions if wide else ConsoleDimensions(80, dimensions.height)

    def render_str(self, text: str, **settings: Any) -> Text:  # noqa: ANN401 - passed to rich
        """Render a `str` that is printed or measured, alone or in a table."""
        return super().render_str(visible(text), **settings)
