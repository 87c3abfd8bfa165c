"""`epalm-train import`: a checkpoint of the released code becomes a run."""

from pathlib import Path
from typing import Annotated

import typer

from epalm.console import configure_logging
from epalm.errors import MissingFileError
from epalm.plugins import TypedName


def import_released(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="Checkpoint of the official implementation, .pth or .safetensors."),
    ],
    features: Annotated[str, typer.Option(help="Path or URL of a store made by epalm-extract.")],
    lm: Annotated[str, typer.Option(help="OPT it was trained with: hub id or local folder.")],
    task: Annotated[
        str, typer.Option(help="Task it was trained for; default: the store's first.")
    ] = "",
    variant: Annotated[
        str, typer.Option(help="Method variant, e.g. full; default: recognized by the tensors.")
    ] = "",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, e.g. --set inject=19:31.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the frozen OPT: fp32, bf16 or fp16; default: fp16, as published."
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            help="Name of the run folder; default: made of task, encoder, LM and variant."
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the task's files; default: the one used at extraction."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete a run of that name instead of refusing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")] = False,
) -> None:
    """Convert an official checkpoint into a run.

    Nothing in the file is executed. Its configuration, if it is in there, goes before the published
    settings, and --set before both.
    """
    configure_logging(quiet=quiet)
    if not checkpoint.is_file():
        raise MissingFileError(f"{checkpoint} is not there: name a checkpoint of the released code")
    from epalm.cache.storage.open_storage import absolute_location
    from epalm.cache.store import Store
    from epalm.train.config.task_choice import asked_task

    chosen, root = asked_task(TypedName(task), Store.open(features).spec, data_root)

    from epalm.train.official_import import (  # and torch, which takes seconds
        ImportConfig,
        import_checkpoint,
    )

    import_checkpoint(
        ImportConfig(
            checkpoint=checkpoint,
            runs=out,
            name=name,
            task=chosen,
            data_root=root,
            features=absolute_location(features),
            lm=str(Path(lm).absolute()) if Path(lm).is_dir() else lm,
            variant=variant,
            changes=(*([("lm_precision", precision)] if precision else []), *(changes or [])),
            fresh=fresh,
        )
    )
