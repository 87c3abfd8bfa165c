"""`epalm-train`: stage two on the command line."""

import typer

from epalm.console import configure_logging, run_app, say_json
from epalm.errors import UsageError
from epalm.options import PanelGroup, add_command, command_from
from epalm.train.official.import_cli import IMPORT_EXAMPLES, import_official
from epalm.train.options.command_options import (
    ImportOptions,
    SoupOptions,
    SweepOptions,
    TrainOptions,
)
from epalm.train.soup.soup_cli import SOUP_EXAMPLES, average
from epalm.train.sweep.sweep_cli import SWEEP_EXAMPLES, run_sweep_command

EXAMPLES = (
    "epalm-train --features cache/coco_vitb16.zarr --dry-run",
    "epalm-train --features cache/own_vitb16.zarr --recipe small --lm path/to/lm",
    "epalm-train --features cache/coco_vitb16.zarr --blind",
)
"""Command lines that the help ends with."""


def run_training(options: TrainOptions) -> None:
    """Train connectors and a soft prompt for a frozen language model on stored features.

    Run the same command again to resume from the last checkpoint. Under torchrun each batch is
    divided among the processes.
    """
    if not options.features:
        raise UsageError(
            "--features must be given, e.g. epalm-train --features cache/coco_vitb16.zarr"
        )
    from epalm.train.options.resolve_options import resolve_options

    data, model, runtime = resolve_options(options, options.features)
    from epalm.train.estimate.dry_run import report_dry_run
    from epalm.train.parallel.distributed import joined
    from epalm.train.run_files.run_summary import run_summary
    from epalm.train.run_training import train

    configure_logging(quiet=options.quiet or not runtime.group.leads)
    with joined(runtime.group, runtime.device):
        if options.dry_run:
            report_dry_run(data, model, runtime, as_json=options.as_json)
            return
        record = train(data, model, runtime)
    if options.as_json and runtime.group.leads:
        say_json(run_summary(runtime.folder, record))


app = typer.Typer(add_completion=False, cls=PanelGroup)
app.callback(invoke_without_command=True)(command_from(TrainOptions, run_training))
add_command(app, "import", ImportOptions, import_official, IMPORT_EXAMPLES)
add_command(app, "soup", SoupOptions, average, SOUP_EXAMPLES)
add_command(app, "sweep", SweepOptions, run_sweep_command, SWEEP_EXAMPLES)


def main() -> None:
    """Entry point of `epalm-train`."""
    run_app(app, examples=EXAMPLES)


if __name__ == "__main__":
    main()
