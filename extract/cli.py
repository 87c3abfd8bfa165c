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
    from epalm.extract.planning.process_shards import ProcessShard

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
        typed = replace(
            options, encoder=TypedName(options.encoder), dataset=TypedName(options.dataset)
        )
        if options.benchmark:
            _benchmark(_read(typed))
        elif options.dry_run:
            _estimate(_read(typed))
        else:
            _extract(typed)


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
    _check_engine(options)


def _check_engine(options: ExtractOptions) -> None:
    """Refuse options of a process that works alone, together with an engine."""
    others = {
        "--dry-run": options.dry_run,
        "--benchmark": options.benchmark,
        "--shard": options.shard,
    }
    other = next((name for name, value in others.items() if value), "")
    if options.engine and other:
        raise UsageError(
            f"--engine or {other}, not both: {other} is for a process without an engine"
        )


def _process_shard(options: ExtractOptions) -> "ProcessShard":
    """The shards of this process: those of --shard, or of the variables of a launcher."""
    from epalm.extract.planning.process_shards import ALL, ProcessShard

    if options.engine:  # which distributes the shards itself
        return ALL
    if options.shard:
        return ProcessShard.parse(options.shard)
    return ProcessShard.from_environment(os.environ)


def _read(options: ExtractOptions) -> "Inputs":
    """The samples; torch is imported after this, so these mistakes are found without it."""
    from epalm.extract.planning.extract_inputs import read_inputs

    return read_inputs(options, process_shard=_process_shard(options))


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


def _extract(options: ExtractOptions) -> None:
    from epalm.extract.fill_store import run_options
    from epalm.extract.planning import extraction_result

    filled = run_options(options, process_shard=_process_shard(options))
    report, run = filled.report, filled.labels
    if options.as_json:
        say_json(extraction_result.report_json(report, run))
    else:
        say(extraction_result.describe_report(report, run))
    if report.failed:
        for line in extraction_result.describe_failures(report, run, filled.store):
            note(line)
        if run.processes == 1:  # torchrun stops all processes if one returns not 0
            raise typer.Exit(INCOMPLETE)


def main() -> None:
    """Entry point; a termination signal stops the run in the same way as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_app(app, examples=EXAMPLES)
