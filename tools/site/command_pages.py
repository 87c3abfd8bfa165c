"""Reference pages of all commands, from the same declarations as their `--help`."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer

from epalm.__main__ import COMMANDS
from tools.site.markdown import cell, code, table

HEAD = """\
# epalm-{name}

{summary} `epalm {name}` is the same command.

"""

INTRODUCTION = """\
# Commands

After reading this page you know which commands there are, and where each of their options is
described. These pages are made from the declarations that the commands themselves read.

Exit codes and errors are the same for all: [errors](../errors.md). What `--json` prints:
[JSON output](../json.md).

"""


def command_pages() -> dict[str, str]:
    """Address of each page -> its Markdown."""
    pages = {f"reference/commands/{name}.md": _page(name) for name in COMMANDS}
    rows = ((f"[`epalm-{name}`]({name}.md)", cell(text)) for name, (_, text) in COMMANDS.items())
    return {
        "reference/commands/index.md": INTRODUCTION + table(("command", "what it does"), rows),
        **pages,
    }


def _page(name: str) -> str:
    module_name, summary = COMMANDS[name]
    module = import_module(module_name)
    command: Any = typer.main.get_command(module.app)
    parts = [HEAD.format(name=name, summary=summary), *_command(command, f"epalm-{name}")]
    parts.append(_examples(module.EXAMPLES))
    for subcommand, below in getattr(command, "commands", {}).items():
        parts.append(f"## epalm-{name} {subcommand}\n\n")
        parts.extend(_command(below, f"epalm-{name} {subcommand}", level=3))
        _, _, examples = (below.epilog or "").partition("Examples:\n")
        parts.append(_examples(examples.split("\n")))
    return "".join(parts)


def _command(command: Any, words: str, level: int = 2) -> Iterator[str]:  # noqa: ANN401 - click's
    """The description of a command, and one table of options for each panel of its help."""
    context = typer.Context(command, info_name=words)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"{_prose(command.help or '')}\n\n```text\n{words} {usage}\n```\n\n"
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        if "--help" in parameter.opts:
            continue
        argument = parameter.param_type_name == "argument"
        panel = "Arguments" if argument else (parameter.rich_help_panel or "General")
        panels.setdefault(panel, []).append(_row(parameter, context))
    for panel in sorted(panels, key=lambda one: (one != "Arguments", one == "General")):
        yield f"{'#' * level} {panel}\n\n" if level == 2 else f"**{panel}**\n\n"
        yield table(("option", "meaning"), panels[panel]) + "\n"


def _prose(text: str) -> str:
    """A help text as paragraphs of Markdown."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _row(parameter: Any, context: Any) -> tuple[str, str]:  # noqa: ANN401 - click's
    """Name and metavariable of an option, and its help with its default."""
    record = parameter.get_help_record(context)
    name = record[0] if record else parameter.make_metavar(context)
    value, text = parameter.default, cell(parameter.help or "")
    if value in (None, False, "") or callable(value):
        return code(name), text
    return code(name), f"{text} Default: {code(value)}."


def _examples(lines: Any) -> str:  # noqa: ANN401 - a tuple or a list
    """Command lines as one block of code."""
    examples = [line.strip() for line in lines if line.strip()]
    return "**Examples**\n\n```bash\n" + "\n".join(examples) + "\n```\n\n" if examples else ""
