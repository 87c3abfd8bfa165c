"""The command `epalm`: one name for all commands, also as `python -m epalm`."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from epalm.console import run_app

COMMANDS = {
    "extract": (
        "epalm.extract.cli",
        "Run a frozen encoder over a dataset, store its features.",
    ),
    "train": ("epalm.train.cli", "Train connectors and a soft prompt on stored features."),
    "eval": ("epalm.evaluate.cli", "Generate answers of a trained run, score and report them."),
    "ask": ("epalm.ask.cli", "Ask a trained run about new images, videos and audio clips."),
    "serve": ("epalm.serve.cli", "Serve a trained run: an OpenAI-compatible API and a web page."),
    "push": ("epalm.hub.push_cli", "Upload a run or a feature store to the Hugging Face hub."),
    "pull": ("epalm.hub.pull_cli", "Download a run or feature stores from the hub."),
    "demo": ("epalm.demo.cli", "Run all three stages on generated data, offline."),
}
"""Subcommand -> module whose `main` runs it, and help. `epalm extract` is `epalm-extract`."""

EXAMPLES = (
    "epalm demo",
    "epalm extract --encoder vit-b16 --dataset coco",
    "epalm train --help",
)
"""Command lines that the help ends with."""

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def describe() -> None:
    """Adapt a frozen language model to image, video and audio inputs."""


def _command(name: str, module: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        sys.argv = [f"epalm {name}", *context.args]
        main: Callable[[], Any] = import_module(module).main
        main()

    return run


for _name, (_module, _help) in COMMANDS.items():
    app.command(
        _name,
        help=_help,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_command(_name, _module))


def main() -> None:
    """Entry point of `epalm`."""
    run_app(app, examples=EXAMPLES)


if __name__ == "__main__":
    main()
