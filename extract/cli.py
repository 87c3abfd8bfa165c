"""The command `epalm-extract`."""

import logging
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from epalm.console import configure_logging, note, run_app, say, say_json, show_table, stoppable
from epalm.errors import INCOMPLETE, UsageError
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.store_commands.store_cli import add_commands
from epalm.options import PanelGroup, command_from
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.extract.planning.extract_inputs import Inputs

logger = logging.getLogger(__name__)

EXAMPLES = (
    "epalm-extract --encoder vit-b16 --dataset coco --data-root /data",
    "epalm-extract --encoder vit-b16 --dataset path/to/folder --dry-run",
    "epalm-extract status cache/coco_vitb16.zarr",
)
"""Command lines that the help ends with."""


def extract_features(options: ExtractOptions) -> None:
    """Run a frozen encoder once over a dataset and store its features.

    Run the same command again to resume an interrupted run, or to add the new samples of a dataset
    that has grown.

    Several processes or machines can fill one store together, each with its own --shard i/n.
    """
    _check_combination(options)
    configure_logging(quiet=options.quiet)
    with stoppable():
        from epalm.extract.planning.extract_inputs import read_inputs
        from epalm.extract.planning.process_shards import ProcessShard

        inputs = read_inputs(
            replace(
                options, encoder=TypedName(options.encoder), dataset=TypedName(options.dataset)
            ),
            process_shard=ProcessShard.parse(options.shard)
            if options.shard
            else ProcessShard.from_environment(os.environ),
        )
        # From here on torch is imported; mistakes that can be found without it have been found.
        if options.benchmark:
            _benchmark(inputs)
        elif options.dry_run:
            _estimate(inputs)
        else:
            _extract(inputs)


app = typer.Typer(add_completion=False, cls=PanelGroup)
app.callback(invoke_without_command=True)(command_from(ExtractOptions, extract_features))
add_commands(app)


def _check_combination(options: ExtractOptions) -> None:
    required = (("--encoder", options.encoder), ("--dataset", options.dataset))
    missing = [name for name, value in required if not value]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} must be given, "
            "e.g. epalm-extract --encoder vit-b16 --dataset coco"
        )
    if options.benchmark and options.dry_run:
        raise UsageError("--dry-run or --benchmark, not both at once")
    for name, value in (("measure", options.measure), ("price-per-hour", options.price_per_hour)):
        if value is not None and not options.dry_run:
            raise UsageError(f"--{name} is an option of --dry-run: add --dry-run")


def _estimate(inputs: "Inputs") -> None:
    from epalm.extract.estimate import estimate_text, extraction_estimate
    from epalm.extract.planning import extraction_plan, store_rows

    options = inputs.options
    plan = extraction_plan.make_plan(inputs)
    plan, count = store_rows.samples_to_encode(plan, options)
    result = extraction_estimate.estimate(
        plan, count, measure=options.measure, price_per_hour=options.price_per_hour
    )
    if options.as_json:
        say_json(extraction_estimate.as_json(result))
        return
    for line in estimate_text.describe_estimate(result, plan):
        say(line)
    if result.gpus:
        show_table(estimate_text.gpu_table(result))


def _benchmark(inputs: "Inputs") -> None:
    from epalm.extract.estimate import stage_timing
    from epalm.extract.planning import extraction_plan

    stages = stage_timing.measure(extraction_plan.make_plan(inputs))
    if inputs.options.as_json:
        say_json(stage_timing.as_json(stages))
    else:
        show_table(stage_timing.table(stages))


def _extract(inputs: "Inputs") -> None:
    from epalm.extract.fill_store import fill_store

    filled = fill_store(inputs)

    from epalm.extract import extraction_report

    report, plan = filled.report, filled.plan
    if inputs.options.as_json:
        say_json(extraction_report.as_json(report, plan))
    else:
        say(extraction_report.describe_report(report, plan))
    if report.failed:
        for line in extraction_report.describe_failures(report, plan, filled.store):
            note(line)
        if plan.process_shard.world_size == 1:  # torchrun stops all processes if one returns not 0
            raise typer.Exit(INCOMPLETE)


def main() -> None:
    """Entry point; a termination signal stops the run in the same way as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_app(app, examples=EXAMPLES)
