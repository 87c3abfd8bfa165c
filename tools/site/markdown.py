"""Tables and descriptions in Markdown, made of dataclasses and docstrings."""

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

ENTRY = re.compile(r"^ {4}(\w+): ", re.MULTILINE)
"""The start of an entry in the section `Attributes:` of a docstring."""


def cell(text: str) -> str:
    """A text as the cell of a table: on one line, without characters that end a cell or a tag."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))  # every second one is code
    return "".join(one if i % 2 else _escaped(one) for i, one in enumerate(parts))


def _escaped(text: str) -> str:
    """Plain text of a cell. In code, "|" ends no cell, and a backslash would be shown."""
    return text.replace("|", "\\|").replace("[CLS]", "\\[CLS]").replace("<", "&lt;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown, see `cell` for plain texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(value: object) -> str:
    """A value as code in the cell of a table; nothing for an empty text."""
    return f"`{value}`" if str(value) else ""


def described_attributes(record: type) -> dict[str, str]:
    """The entries of the section `Attributes:` of a class: name -> description on one line."""
    docstring = inspect.getdoc(record) or ""
    section = docstring.partition("\nAttributes:\n")[2].partition("\n\n")[0]
    _, *parts = ENTRY.split(section)
    names, texts = parts[::2], parts[1::2]
    return dict(zip(names, (" ".join(text.split()) for text in texts), strict=True))


def field_type(field: "Field[Any]") -> str:
    """The annotation of a field as it is written."""
    kind = field.type
    text = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=\w)", "", text)


def described_default(field: "Field[Any]") -> str:
    """Whether a field is required, or its default in TOML's notation."""
    if field.default is MISSING:
        return "required" if field.default_factory is MISSING else "optional"
    value = field.default
    if isinstance(value, bool):
        return f"default {code(str(value).lower())}"
    return f"default {code(json.dumps(value) if isinstance(value, str) else value)}"


def fields_table(record: type, *, but: str = "") -> str:
    """The fields of a dataclass: name, description in its docstring, type and default.

    Args:
        record: the dataclass.
        but: name of a field that is left out.

    Raises:
        KeyError: a field has no description.
    """
    described = described_attributes(record)
    rows = (
        (
            code(one.name),
            f"{cell(described[one.name])} ({code(field_type(one))}, {described_default(one)})",
        )
        for one in fields(record)
        if one.name != but
    )
    return table(("key", "meaning (type, default)"), rows)
