"""Options declared as fields of a dataclass, on a command line."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from epalm.options import PanelGroup, command_from, option


@dataclass(frozen=True, kw_only=True)
class Options:
    features: Annotated[str, option(help="Feature store.", panel="Data")]
    seed: Annotated[int, option(help="Random seed.", panel="Optimization", min=0)] = 0
    changes: Annotated[
        list[str] | None, option("--set", help="Change a recipe key.", panel="Optimization")
    ] = None
    quiet: Annotated[bool, option("--quiet", help="Print errors only.", panel="General")] = False


def app_that_keeps(calls: list[Options]) -> typer.Typer:
    def run(options: Options) -> None:
        """Train something."""
        calls.append(options)

    app = typer.Typer(add_completion=False, cls=PanelGroup, rich_markup_mode=None)
    app.callback(invoke_without_command=True)(command_from(Options, run))
    app.command("other")(lambda: None)
    return app


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--features", "a"], Options(features="a")),
        (
            ["--features", "a", "--seed", "3", "--set", "x=1", "--set", "y=2", "--quiet"],
            Options(features="a", seed=3, changes=["x=1", "y=2"], quiet=True),
        ),
    ],
)
def test_the_command_gets_the_values_of_the_command_line(
    words: list[str], expected: Options
) -> None:
    calls: list[Options] = []
    assert CliRunner().invoke(app_that_keeps(calls), words).exit_code == 0
    assert calls == [expected]


@pytest.mark.parametrize("words", [[], ["--features", "a", "--seed", "-1"]])
def test_a_missing_option_or_a_value_out_of_range_is_a_usage_error(words: list[str]) -> None:
    calls: list[Options] = []
    assert CliRunner().invoke(app_that_keeps(calls), words).exit_code == 2
    assert calls == []


def test_help_lists_options_by_panel_and_the_general_ones_last() -> None:
    page = CliRunner().invoke(app_that_keeps([]), ["--help"]).output
    positions = [page.index(f"{panel}:\n") for panel in ("Data", "Optimization", "General")]
    assert positions == sorted(positions)
    assert "Train something." in page
    assert page.index("--quiet") > positions[2]
