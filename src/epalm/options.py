"""Command lines generated from dataclasses: every option is declared once, as a field.

@dataclass(frozen=True, kw_only=True)
class Options:
features: Annotated[str, option(help="Feature store.", panel="Data")]
seed: Annotated[int, option(help="Random seed.", panel="Optimization", min=0)] = 0

app.callback(invoke_without_command=True)(command_from(Options, run))
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")

DATA, PERFORMANCE = "Data", "Performance"
"""Panels that several commands have."""

GENERAL = "General"
"""Panel of options that every command has, e.g. --quiet; it comes last."""

ARGUMENTS = "Arguments"
"""Panel of positional arguments; it comes first."""


def option(*names: str, help: str, panel: str, **settings: Any) -> OptionInfo:  # noqa: ANN401 - as typer has them
    """Declare a field of a dataclass as a command-line option.

    Args:
        names: command-line names, e.g. "--set"; by default the field's name with dashes.
        help: one or two sentences: what the option sets, in which unit, and its default.
        panel: heading in `--help` below which the option is listed.
        settings: passed on to `typer.Option`, e.g. `min=0`.

    Returns:
        The second argument of `Annotated` in the annotation of the field.
    """
    declared: OptionInfo = typer.Option(*names, help=help, rich_help_panel=panel, **settings)
    return declared


Quiet: TypeAlias = Annotated[
    bool, option("--quiet", help="Print results, warnings and errors only.", panel=GENERAL)
]
"""The option --quiet of every command."""

JSON_OPTION = "--json"

Json: TypeAlias = Annotated[
    bool,
    option(JSON_OPTION, help="Print the result, or the error, as one line of JSON.", panel=GENERAL),
]
"""The option --json of every command."""

Device: TypeAlias = Annotated[
    str,
    option(
        help="Device: cpu, cuda, cuda:1, mps (untested), or auto: a GPU if there is one.",
        panel=PERFORMANCE,
    ),
]
"""The option --device of every command that computes."""

Common: TypeAlias = Annotated[
    bool,
    option(
        "--common",
        help="With several --features: use the samples that all stores have, instead of refusing "
        "stores with different ones.",
        panel="Several stores",
    ),
]
"""The option --common of the commands that join stores."""

LocalCache: TypeAlias = Annotated[
    Path | None,
    option(
        help="Folder of the local copies of stores at a URL; default: $EPALM_COPIES, else "
        "~/.cache/epalm.",
        panel=PERFORMANCE,
        file_okay=False,
    ),
]
"""The option --local-cache of the commands that read features at a URL."""

LocalCacheSize: TypeAlias = Annotated[
    str,
    option(
        help="Largest size of all local copies, e.g. 200GB; those used least recently are deleted; "
        "default: $EPALM_COPIES_SIZE, else no limit.",
        panel=PERFORMANCE,
    ),
]
"""The option --local-cache-size of the commands that read features at a URL."""

Concatenate: TypeAlias = Annotated[
    bool,
    option(
        "--concatenate",
        help="With several --features: read them as parts of one dataset, with different samples "
        "and the same encoder and settings, instead of joining them by key.",
        panel="Several stores",
    ),
]
"""The option --concatenate of the commands that read several stores."""

AllowOutside: TypeAlias = Annotated[
    bool,
    option(
        "--allow-outside",
        help="Also open files that the dataset names outside its folder: absolute paths, .., "
        "links.",
        panel=DATA,
    ),
]
"""The option --allow-outside of every command that opens the files of a dataset."""


def command_from(options: type[Options], run: Callable[[Options], None]) -> Callable[..., None]:
    """Make the function that typer turns into a command with one option per field of a dataclass.

    Args:
        options: dataclass whose fields are annotated with `option`.
        run: called with the values from the command line, unless a subcommand was called. Its
            docstring describes the command.
    """

    def command(context: typer.Context, **values: object) -> None:
        if context.invoked_subcommand is None:
            run(options(**values))

    hints = get_type_hints(options, include_extras=True)
    command.__annotations__ = {"context": typer.Context}
    command.__doc__ = run.__doc__
    vars(command)["__signature__"] = inspect.Signature(
        [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if field.default is MISSING else field.default,
                    annotation=hints[field.name],
                )
                for field in fields(options)
            ),
        ]
    )
    return command


def add_command(
    app: typer.Typer,
    name: str,
    options: type[Options],
    run: Callable[[Options], None],
    examples: Sequence[str],
) -> None:
    """Add a subcommand to an app.

    Args:
        app: the app of the main command.
        name: name of the subcommand.
        options: dataclass whose fields are annotated with `option`.
        run: called with the values from the command line; its docstring describes the subcommand.
        examples: command lines that the help ends with.
    """
    epilog = examples_epilog(*examples)
    app.command(name, cls=PanelCommand, epilog=epilog)(command_from(options, run))


def examples_epilog(*examples: str) -> str:
    """The end of a help page, for the `epilog` of a command: example command lines, one a line."""
    return "\b\nExamples:\n" + "".join(f"  {example}\n" for example in examples)


class PanelGroup(TyperGroup):
    """A group of commands whose help lists its options by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's
        """Write the options, then the commands."""
        _write_panels(self, ctx, formatter)
        self.format_commands(ctx, formatter)


class PanelCommand(TyperCommand):
    """A command whose help lists its options by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's
        """Write the options."""
        _write_panels(self, ctx, formatter)


def _write_panels(command: Any, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if record := parameter.get_help_record(ctx):
            argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None) or GENERAL
            panel = ARGUMENTS if argument else panel
            panels.setdefault(panel, []).append(record)
    for panel in sorted(panels, key=lambda name: (name != ARGUMENTS, name == GENERAL)):
        with formatter.section(panel):
            formatter.write_dl(panels[panel])
