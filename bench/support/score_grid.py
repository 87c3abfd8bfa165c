"""Printing a table of scores, also as Markdown, with the command that reproduces it."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.support.timed_rounds import TABLE_COLUMNS, command, machine


def publish_grid(grid: Sequence[Sequence[str]], *, commits: str, note: str = "") -> None:
    """Print a table.

    Args:
        grid: header, then rows.
        commits: commits of the code that computed the scores.
        note: a line below the table; empty for none.
    """
    head, *rows = grid
    shown = Table(*head)
    for cells in rows:
        shown.add_row(*cells)
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=TABLE_COLUMNS)
    console.print(shown)
    markdown = [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]]
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    for line in [*markdown, *([note] * bool(note)), about, f"{command()}; {commits}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def spread(scores: Sequence[float]) -> str:
    """Mean ± standard deviation; without the latter for a single score."""
    if not scores:
        return ""
    mean = f"{np.mean(scores):.1f}"
    return mean if len(scores) == 1 else f"{mean} ± {np.std(scores, ddof=1):.1f}"
