"""The help of every command on a terminal of 80 columns."""

import re
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from epalm.ask import cli as ask
from epalm.demo import cli as demo
from epalm.evaluate import cli as evaluate
from epalm.extract import cli as extract
from epalm.hub import pull_cli, push_cli
from epalm.serve import cli as serve
from epalm.train import cli as train

MODULES = {
    "epalm-extract": extract,
    "epalm-train": train,
    "epalm-eval": evaluate,
    "epalm-ask": ask,
    "epalm-demo": demo,
    "epalm-serve": serve,
    "epalm-push": push_cli,
    "epalm-pull": pull_cli,
}


def help_of(name: str, *words: str) -> str:
    app = MODULES[name].app
    app.rich_markup_mode = None
    result = CliRunner().invoke(
        app, [*words, "--help"], env={"COLUMNS": "80"}, terminal_width=80, max_content_width=80
    )
    assert result.exit_code == 0, result.output
    return result.output


def pages() -> Iterator[tuple[str, ...]]:
    for name, module in MODULES.items():
        yield (name,)
        group = typer.main.get_command(module.app)
        for command in getattr(group, "commands", {}):
            yield name, command


@pytest.mark.parametrize("words", list(pages()), ids=" ".join)
def test_help_fits_80_columns_with_every_summary_whole(words: tuple[str, ...]) -> None:
    page = help_of(*words)
    assert max(map(len, page.splitlines())) <= 80
    commands = page.partition("Commands:\n")[2]
    assert "..." not in commands


@pytest.mark.parametrize("words", list(pages()), ids=" ".join)
def test_the_help_of_an_option_stands_alone(words: tuple[str, ...]) -> None:
    """A text that begins with `Of` or `Default` needs the option's name to be understood."""
    command = typer.main.get_command(MODULES[words[0]].app)
    for name in words[1:]:
        command = vars(command)["commands"][name]
    for parameter in command.params:
        text = getattr(parameter, "help", None) or ""
        assert text, parameter.name
        assert not re.match(r"(Of|Default|As|Where the)\b", text), f"{parameter.name}: {text}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_fit_80_columns_and_name_options_that_exist(name: str) -> None:
    module = MODULES[name]
    assert 2 <= len(module.EXAMPLES) <= 3
    for example in module.EXAMPLES:
        first, *words = example.split()
        assert first == name
        assert len(example) <= 76
        command = words[:1] if words and not words[0].startswith("-") else []
        page = help_of(name, *command)
        for word in words:
            if word.startswith("--"):
                assert f"  {word} " in page, example


LONG_PAGES = [
    ("epalm-extract",),
    ("epalm-extract", "retry-failed"),
    ("epalm-eval",),
    ("epalm-eval", "compare"),
    ("epalm-serve",),
]


@pytest.mark.parametrize("words", LONG_PAGES, ids=" ".join)
def test_help_lists_at_most_eight_options_per_panel(words: tuple[str, ...]) -> None:
    page = help_of(*words)
    sections = re.split(r"^(?=\S.*:$)", page, flags=re.MULTILINE)
    counts = [len(re.findall(r"^  --", section, flags=re.MULTILINE)) for section in sections]
    assert sum(counts) > 7
    assert max(counts) <= 8
    assert not any(section.startswith("Options:") for section in sections)
    assert "<bool>" not in page


SUBCOMMANDS = [words for words in pages() if words[:-1] in (("epalm-extract",), ("epalm-eval",))]


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
def test_help_of_every_subcommand_ends_with_examples(words: tuple[str, ...]) -> None:
    assert f"Examples:\n    {' '.join(words)}" in help_of(*words)
