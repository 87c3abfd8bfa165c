"""`epalm-pull`: download a run or feature stores from the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epalm.console import configure_logging, note, run_app, say, say_json
from epalm.options import ARGUMENTS, Json, PanelCommand, Quiet, command_from, option

if TYPE_CHECKING:
    from epalm.hub.pull import Download

HUB = "Hub"
"""Panel of the options about the hub."""

EXAMPLES = (
    "epalm-pull user/name",
    "epalm-pull user/name --revision v2 --out runs/name-v2",
    "epalm-pull datasets/user/coco-features --dry-run",
)
"""Command lines that the help ends with."""


@dataclass(frozen=True, kw_only=True)
class PullOptions:
    """The options of `epalm-pull`."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="USER/NAME",
            help="Repository on the hub; datasets/USER/NAME for one of feature stores.",
            rich_help_panel=ARGUMENTS,
        ),
    ]
    out: Annotated[
        Path | None,
        option(
            help="New folder of the run, or folder of the stores; default: runs/NAME or cache.",
            panel=HUB,
        ),
    ] = None
    revision: Annotated[
        str, option(help="Branch, tag or commit; default: the newest.", panel=HUB)
    ] = ""
    with_checkpoint: Annotated[
        bool,
        option(
            "--with-checkpoint",
            help="Include what resuming the training of a run needs, if it was pushed.",
            panel=HUB,
        ),
    ] = False
    dry_run: Annotated[
        bool,
        option("--dry-run", help="List the files and their sizes, download nothing.", panel=HUB),
    ] = False
    as_json: Json = False
    quiet: Quiet = False


def command(options: PullOptions) -> None:
    """Download a run or feature stores from the Hugging Face hub, and check every file.

    Nothing that exists is overwritten, and an interrupted pull resumes.
    """
    configure_logging(quiet=options.quiet)
    from epalm.hub import pull as transfer
    from epalm.hub.transfer_display import progress_shown, show_files

    with progress_shown(quiet=options.quiet):
        download = transfer.planned_download(
            options.source, revision=options.revision, checkpoints=options.with_checkpoint
        )
        listed = {file.name: file.size for file in download.files}
        result = {"repository": str(download.repository), "commit": download.commit}
        if options.dry_run:
            if options.as_json:
                say_json(result | {"files": listed, "bytes": sum(listed.values())})
            else:
                show_files(listed, "not downloaded")
            return
        paths = transfer.pull(download, options.out or _default_out(download))
    if options.as_json:
        say_json(result | {"files": listed, "paths": [str(path) for path in paths]})
        return
    for path in paths:
        say(f"{path}: every file is as {download.repository} has it")
        note(f"next: {_next_command(path, is_run=download.is_run)}")


def _default_out(download: "Download") -> Path:
    name = download.repository.name.partition("/")[2]
    return Path("runs") / name if download.is_run else Path("cache")


def _next_command(path: Path, *, is_run: bool) -> str:
    if is_run:
        return f"epalm-ask {path} FILE, or epalm-eval --run {path} --split val --features STORE"
    return f"epalm-train --features {path}"


app = typer.Typer(add_completion=False)
app.command(cls=PanelCommand)(command_from(PullOptions, command))


def main() -> None:
    """Entry point of `epalm-pull`."""
    run_app(app, examples=EXAMPLES)
