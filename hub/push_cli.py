"""`epalm-push`: upload a run or a feature store to the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from epalm.console import byte_size, configure_logging, counted, note, run_app, say, say_json
from epalm.options import ARGUMENTS, Json, PanelCommand, Quiet, command_from, option

HUB = "Hub"
"""Panel of the options about the hub."""

EXAMPLES = (
    "epalm-push runs/NAME user/name --dry-run",
    "epalm-push runs/NAME user/name --private",
    "epalm-push cache/coco_vitb16.zarr user/coco-features",
)
"""Command lines that the help ends with."""


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """The options of `epalm-push`."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|STORE",
            help="Folder of a finished run, or path of a finished feature store.",
            rich_help_panel=ARGUMENTS,
        ),
    ]
    target: Annotated[
        str,
        typer.Argument(
            metavar="USER/NAME",
            help="Repository on the hub, created if it does not exist.",
            rich_help_panel=ARGUMENTS,
        ),
    ]
    private: Annotated[
        bool, option("--private", help="Create a private repository.", panel=HUB)
    ] = False
    revision: Annotated[
        str, option(help="Branch to write to, created if needed; default: main.", panel=HUB)
    ] = ""
    with_checkpoint: Annotated[
        bool,
        option(
            "--with-checkpoint",
            help="Include what resuming the training of a run needs.",
            panel=HUB,
        ),
    ] = False
    dry_run: Annotated[
        bool,
        option("--dry-run", help="List the files and their sizes, upload nothing.", panel=HUB),
    ] = False
    as_json: Json = False
    quiet: Quiet = False


def command(options: PushOptions) -> None:
    """Upload a finished run or feature store to the Hugging Face hub.

    A run goes to a repository of models with its model card, a store to one of datasets. Needs a
    token with write access, from HF_TOKEN or `hf auth login`.
    """
    configure_logging(quiet=options.quiet)
    from epalm.hub import push as transfer
    from epalm.hub.transfer_display import progress_shown, show_files

    upload = transfer.planned_upload(
        options.source, options.target, checkpoints=options.with_checkpoint
    )
    if not options.dry_run and upload.repository.type == "model":
        transfer.write_card_for(upload, Path(options.source))
        upload = transfer.planned_upload(
            options.source, options.target, checkpoints=options.with_checkpoint
        )
    listed = {file.name: file.size for file in upload.files}
    result = {"repository": str(upload.repository), "files": listed, "bytes": upload.size}
    if options.dry_run:
        if options.as_json:
            say_json(result)
            return
        show_files(listed, "not uploaded")
        return
    with progress_shown(quiet=options.quiet):
        url = transfer.push(upload, private=options.private, revision=options.revision)
    if options.as_json:
        say_json(result | {"url": url})
        return
    say(f"{upload.repository}: {counted(len(listed), 'file')}, {byte_size(upload.size)}: {url}")
    note(f"get it elsewhere: epalm-pull {upload.repository}")


app = typer.Typer(add_completion=False)
app.command(cls=PanelCommand)(command_from(PushOptions, command))


def main() -> None:
    """Entry point of `epalm-push`."""
    run_app(app, examples=EXAMPLES)
