"""`epalm-train soup`: the average of runs from one start becomes a run."""

from epalm.console import configure_logging, say_json
from epalm.train.options.command_options import SoupOptions

SOUP_EXAMPLES = (
    "epalm-train soup seed0 seed1 seed2 --name average",
    "epalm-train soup runs/seed0 runs/seed1 --json",
)
"""Command lines that the help ends with."""


def average(options: SoupOptions) -> None:
    """Average the trained weights of runs from one start into a new run.

    The runs have equal settings, init_seed among them, and different seeds. Each contributes the
    weights of its best epoch.
    """
    configure_logging(quiet=options.quiet)
    from epalm.train.run_files.run_summary import run_summary
    from epalm.train.soup.average_runs import average_runs

    record = average_runs(options)
    if options.as_json:
        say_json(run_summary(options.out / record.name, record))
