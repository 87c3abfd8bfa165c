"""README matches the repository."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from epalm.ask import cli as ask
from epalm.demo import cli as demo
from epalm.evaluate import cli as evaluate
from epalm.extract import cli as extract
from epalm.train import cli as train
from tests.repository import PACKAGES, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / "how_to" / f"{name}.md" for name in ("evaluation", "extraction", "reports")),
    *(ROOT / "docs" / "how_to" / f"{name}.md" for name in ("gpu_too_small", "training")),
    *(ROOT / "docs" / "reference" / f"{name}.md" for name in ("data", "format")),
    *(ROOT / "docs" / "reference" / f"{name}.md" for name in ("media", "scoring")),
]
"""Pages in which every option is one of ours."""

OTHER_PROGRAMS = {"--quiet", "--editable", "--help", "--logdir", "--project"}
"""Options of pip, click, TensorBoard and trackio."""

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def marked(name: str) -> list[str]:
    actual = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in actual for line in block.splitlines()]


def test_demo_and_tests_are_one_command_each() -> None:
    assert [len(marked(name)) for name in ("demo", "test")] == [1, 1]
    assert marked("demo")[0].endswith("/epalm-demo")
    assert marked("test")[0].endswith("pytest -n auto")


def test_both_commands_install_the_exact_versions_that_were_tested() -> None:
    commands = [*marked("demo"), *marked("test")]
    assert [command.count("pip install --quiet -c constraints.txt ") for command in commands] == [
        1,
        1,
    ]


def test_the_first_command_is_by_line_twelve() -> None:
    assert README.splitlines().index("```bash") < 12


def test_every_command_is_named() -> None:
    assert [script for script in SCRIPTS if script not in README] == []


def test_the_tree_names_every_package_and_nothing_that_is_not_there() -> None:
    (tree,) = re.findall(r"```text\n(.*?)```", README, flags=re.DOTALL)
    folders = [line.split()[0].rstrip("/") for line in tree.splitlines()]
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    assert {*PACKAGES} - {"epalm"} <= {*folders}


def options(command: Any) -> Iterator[str]:  # noqa: ANN401 - click's
    """The options of a click command and of its subcommands, e.g. "--encoder"."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for subcommand in getattr(command, "commands", {}).values():
        yield from options(subcommand)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_the_text_exists(page: Path) -> None:
    declared = {
        option
        for app in (ask.app, demo.app, evaluate.app, extract.app, train.app)
        for option in options(typer.main.get_command(app))
    }
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - declared - OTHER_PROGRAMS == set()
