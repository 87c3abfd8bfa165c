"""Every command has --json, the same option with the same meaning."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args

import pytest
import typer

from epalm.__main__ import COMMANDS
from epalm.options import JSON_OPTION, Json


def commands() -> Iterator[tuple[str, Any]]:
    """Words and click command of each command and subcommand."""
    for name, (module, _) in COMMANDS.items():
        command: Any = typer.main.get_command(import_module(module).app)
        yield f"epalm {name}", command
        for subcommand, below in getattr(command, "commands", {}).items():
            yield f"epalm {name} {subcommand}", below


ALL = dict(commands())


def test_the_walk_finds_commands_and_subcommands() -> None:
    expected = {"epalm extract", "epalm extract retry-failed", "epalm train import"}
    assert expected | {"epalm eval install-spice", "epalm demo"} <= ALL.keys()
    assert len(ALL) >= 16


@pytest.mark.parametrize("words", ALL)
def test_every_command_has_the_shared_option_json(words: str) -> None:
    named = [one for one in ALL[words].params if JSON_OPTION in one.opts]
    assert len(named) == 1, f"{words} lacks `as_json: Json = False` of epalm.options"
    (_, declared) = get_args(Json)
    assert (named[0].name, named[0].help) == ("as_json", declared.help)
    assert named[0].default is False
