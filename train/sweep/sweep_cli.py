"""`epalm-train sweep`: many adapters over one loaded language model."""

import typer

from epalm.console import configure_logging, say_json
from epalm.errors import INCOMPLETE
from epalm.train.options.command_options import SweepOptions

SWEEP_EXAMPLES = (
    "epalm-train sweep SWEEP.toml --dry-run",
    "epalm-train sweep SWEEP.toml --out runs/layers",
)
"""Command lines that the help ends with."""


def run_sweep_command(options: SweepOptions) -> None:
    """Train many adapters over one language model.

    The model is loaded and the texts are tokenized once. Each member is an ordinary run in
    OUT/NAME/members. Run the same command again to resume; finished members are not run again.
    """
    configure_logging(quiet=options.quiet)
    from epalm.train.sweep.sweep_file import read_sweep

    sweep = read_sweep(options.sweep)

    # and torch, which takes seconds
    from epalm.train.sweep.planned_members import Place, plan_members
    from epalm.train.sweep.run_sweep import sweep_members
    from epalm.train.sweep.sweep_report import plan_as_json, show_plan, show_result
    from epalm.train.sweep.sweep_result import as_json

    folder = options.out / (options.name or options.sweep.stem)
    place = Place(folder, options.device, fresh=options.fresh, quiet=options.quiet)
    if options.dry_run:
        planned = plan_members(sweep, place)
        say_json(plan_as_json(planned)) if options.as_json else show_plan(planned)
        return
    result = sweep_members(sweep, place)
    if options.as_json:
        say_json({"folder": str(folder), **as_json(result)})
    else:
        show_result(result)
    if any(one.status == "failed" for one in result.members):
        raise typer.Exit(INCOMPLETE)
