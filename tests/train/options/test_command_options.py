"""How the help of `epalm-train` and of `epalm-train import` lists their options."""

import re
from collections import Counter
from dataclasses import fields
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

from epalm.train.cli import app
from epalm.train.official.import_cli import IMPORT_EXAMPLES
from epalm.train.options.command_options import ImportOptions, TrainOptions

PANELS = ["Data", "Several stores", "Model", "Optimization", "Performance", "Run folder", "General"]


def help_of(*words: str) -> str:
    app.rich_markup_mode = None
    return CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).output


@pytest.mark.parametrize("options", [TrainOptions, ImportOptions])
def test_no_panel_has_more_than_eight_options(options: type) -> None:
    hints = get_type_hints(options, include_extras=True)
    panels = [hints[field.name].__metadata__[0].rich_help_panel for field in fields(options)]
    assert set(panels) - {None} <= set(PANELS)
    assert max(Counter(panels).values()) <= 8


def test_panels_of_the_help_are_in_order_and_flags_take_no_value() -> None:
    page = help_of()
    headings = re.findall(r"^(\w[\w ]*):$", page, re.MULTILINE)
    assert headings == [*PANELS, "Commands"]
    assert "<bool>" not in page


def test_the_help_of_import_ends_with_examples() -> None:
    page = help_of("import")
    end = page.partition("Examples:\n")[2]
    assert [line.strip() for line in end.splitlines() if line.strip()] == list(IMPORT_EXAMPLES)
    for example in IMPORT_EXAMPLES:
        for word in example.split():
            assert not word.startswith("--") or f"  {word} " in page
