"""`epalm-train`: stage two on the command line."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from epalm.console import configure_logging, run_app
from epalm.devices import AUTO, pick_device
from epalm.errors import UsageError
from epalm.plugins import TypedName
from epalm.train.import_cli import import_released

EXAMPLES = (
    "epalm-train --features cache/coco_vitb16.zarr --dry-run",
    "epalm-train --features cache/own_vitb16.zarr --recipe small --lm path/to/opt",
    "epalm-train --features cache/coco_vitb16.zarr --blind",
)
"""Command lines that the help ends with."""

app = typer.Typer(add_completion=False)
app.command("import")(import_released)


@app.callback(invoke_without_command=True)
def command(
    context: typer.Context,
    features: Annotated[
        str | None, typer.Option(help="Feature store: path or URL of what epalm-extract wrote.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="Task; default: the first that the store's data set has.")
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="Recipe name or .toml path; default: the task's published one.")
    ] = "",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a recipe key, e.g. --set epochs=3.")
    ] = None,
    lm: Annotated[
        str, typer.Option(help="OPT language model: hub id or local folder; default: the recipe's.")
    ] = "",
    variant: Annotated[
        str, typer.Option(help="Method variant, e.g. full or magma; default: the recipe's.")
    ] = "",
    source_layers: Annotated[
        str,
        typer.Option(help="Encoder blocks to use: all, last-6, or 0,5,11; default: the recipe's."),
    ] = "",
    inject: Annotated[
        str, typer.Option(help="OPT layers to inject, e.g. 19:31; default: the variant's.")
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
    device: Annotated[
        str,
        typer.Option(
            help="Device: cpu, cuda, cuda:1, mps (untested), or auto: a GPU if there is one."
        ),
    ] = AUTO,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the frozen OPT: fp32, bf16, fp16, int8, int4, or auto "
            "(the fastest native); default: the recipe's, in ours auto."
        ),
    ] = "",
    seed: Annotated[
        int, typer.Option(help="Random seed of initialization, data order and dropout.")
    ] = 0,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind", help="Train a control on the features of other samples of the split."
        ),
    ] = False,
    limit: Annotated[
        int, typer.Option(help="Use the first N examples of each split only; 0: all.")
    ] = 0,
    train_examples: Annotated[
        int, typer.Option(help="Number of training examples, drawn by --seed; 0: the recipe's.")
    ] = 0,
    train_fraction: Annotated[
        float, typer.Option(help="Fraction of the training examples, e.g. 0.01; 0: the recipe's.")
    ] = 0.0,
    train_split: Annotated[
        str, typer.Option(help="Split to train on, e.g. standard_train; default: the task's.")
    ] = "",
    val_split: Annotated[
        str, typer.Option(help="Split that selects the best epoch; default: the task's.")
    ] = "",
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Start over instead of resuming.")
    ] = False,
    reader: Annotated[
        Literal["auto", "gpu", "ram", "mapped", "stream", "pread"],
        typer.Option(
            help="Where features are read from; auto: GPU memory if they fit, else RAM, else disk."
        ),
    ] = "auto",
    shard_weights: Annotated[
        bool,
        typer.Option(
            "--shard-weights", help="Under torchrun: shard the OPT's layers across the processes."
        ),
    ] = False,
    text_states: Annotated[
        Path | None,
        typer.Option(
            help="Folder to cache the hidden states of texts below the first injected layer "
            "(variants lin and 6-connectors).",
            file_okay=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report the memory required; train nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")] = False,
) -> None:
    """Train connectors and a soft prompt for a frozen OPT on stored features.

    Run the same command again to resume from the last checkpoint. Under torchrun each batch is
    divided among the processes.
    """
    if context.invoked_subcommand is not None:
        return
    if features is None:
        raise UsageError(
            "--features must be given, e.g. epalm-train --features cache/coco_vitb16.zarr"
        )
    from epalm.cache.storage.open_storage import absolute_location
    from epalm.cache.store import Store
    from epalm.train.config.preflight_checks import check_names
    from epalm.train.config.recipe import amount_of_data, default_recipe, load_recipe
    from epalm.train.config.recipe_ranges import check_options
    from epalm.train.config.task_choice import asked_task
    from epalm.train.parallel.launchers import check_launcher
    from epalm.train.run_files.run_folder import default_name

    check_launcher(os.environ)
    check_options(seed=seed, limit=limit)
    spec = Store.open(features).spec
    wanted, root = asked_task(TypedName(task), spec, data_root)
    recipe_name = recipe or default_recipe(wanted.name)
    overrides = [
        *(changes or []),
        *_given(
            lm=str(Path(lm).absolute()) if lm and Path(lm).is_dir() else lm,
            lm_precision=precision,
            variant=variant,
            source_layers=source_layers,
            inject=inject,
            train_split=train_split,
            val_split=val_split,
        ),
        *amount_of_data(train_examples, train_fraction),
    ]
    settings = load_recipe(recipe_name, overrides)
    folder = name or default_name(wanted.name, spec, settings.lm, settings.variant, blind=blind)
    check_names(settings, wanted, spec, device=device, run=Path(folder).name)

    # torch and transformers take seconds to import: every mistake that can be found without them
    # has been found above.
    from epalm.train.config.train_config import TrainConfig
    from epalm.train.estimate.dry_run import show_plan
    from epalm.train.parallel.distributed import joined, own_group
    from epalm.train.run_training import train

    group = own_group()
    configure_logging(quiet=quiet or not group.leads)
    own_device = group.device(pick_device(device))
    with joined(group, own_device):
        (show_plan if dry_run else train)(
            TrainConfig(
                folder=out / folder,
                task=wanted,
                data_root=root,
                features=absolute_location(features),
                recipe=settings,
                recipe_name=recipe_name,
                seed=seed,
                device=own_device,
                blind=blind,
                limit=limit,
                fresh=fresh,
                reader=reader,
                text_states=text_states,
                quiet=quiet,
                group=group,
                shard=shard_weights,
            )
        )


def _given(**options: str) -> list[tuple[str, str]]:
    """The recipe keys that options of their own change, with the new values."""
    return [(key, value) for key, value in options.items() if value]


def main() -> None:
    """Entry point of `epalm-train`."""
    run_app(app, examples=EXAMPLES)


if __name__ == "__main__":
    main()
