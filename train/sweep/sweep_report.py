"""The files that a sweep ends with: sweep.json, sweep.md and the chart of all members."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from epalm.atomic_write import write_file
from epalm.console import byte_size, say, show_table
from epalm.terminal import visible
from epalm.train.run_files.run_folder import writes_named
from epalm.train.sweep.planned_members import PlannedMember
from epalm.train.sweep.sweep_chart import save_chart
from epalm.train.sweep.sweep_result import Estimate, Group, MemberResult, SweepResult, as_json

RESULT_FILE, TABLE_FILE = "sweep.json", "sweep.md"

_MAX_FIGURES = 4
"""Largest number of figures in a table; sweep.json has all."""

Rows = list[list[str]]


def write_result(folder: Path, result: SweepResult) -> None:
    """Write sweep.json, sweep.md, sweep.png and sweep.svg.

    Raises:
        RunFolderError: they cannot be written.
    """
    with writes_named(folder):
        write_file(folder / RESULT_FILE, json.dumps(as_json(result), indent=1) + "\n")
        tables = [_group_rows(result), _member_rows(result)]
        write_file(folder / TABLE_FILE, "\n".join(map(_markdown, tables)))
        save_chart(folder, result)


def show_result(result: SweepResult) -> None:
    """Print both tables of a result."""
    for title, rows in (
        ("means over seeds", _group_rows(result)),
        ("members", _member_rows(result)),
    ):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for number, heading in enumerate(rows[0]):
            table.add_column(heading, justify="left" if number < 1 else "right")
        for row in rows[1:]:
            table.add_row(*map(visible, row))
        show_table(table)
    if result.best:
        say(f"best by {result.by}: {result.best}")


def show_plan(planned: Sequence[PlannedMember]) -> None:
    """Print what `--dry-run` knows: steps, planned memory and rough cost of every member."""
    table = Table(box=None, pad_edge=False)
    table.add_column("member")
    for heading in ("steps", "memory", "TFLOP"):
        table.add_column(heading, justify="right")
    for one in planned:
        cost = one.operations * one.steps / 1e12
        table.add_row(visible(one.name), str(one.steps), byte_size(one.memory.total), f"{cost:.3g}")
    show_table(table)
    say(_totals(planned))


def plan_as_json(planned: Sequence[PlannedMember]) -> dict[str, object]:
    """What `--dry-run --json` prints."""
    largest = max(planned, key=lambda one: one.memory.total)
    return {
        "members": [
            {
                "name": one.name,
                "steps": one.steps,
                "total_bytes": one.memory.total,
                "operations": one.operations * one.steps,
            }
            for one in planned
        ],
        "total_bytes": largest.memory.total,
        "free_bytes": largest.memory.free,
        "fits": largest.memory.fits,
    }


def _totals(planned: Sequence[PlannedMember]) -> str:
    memory = max(one.memory.total for one in planned)
    free = planned[0].memory.free
    cost = sum(one.operations * one.steps for one in planned) / 1e12
    return (
        f"{len(planned)} members, {sum(one.steps for one in planned)} steps without halving, "
        f"about {cost:.3g} TFLOP; the largest requires {byte_size(memory)} of {byte_size(free)}"
    )


def _group_rows(result: SweepResult) -> Rows:
    names = _shown(result, [one.figures for one in result.groups])
    heading = ["settings", "finished", *(f"{name} (95 % interval)" for name in names)]
    return [heading, *(_group_row(one, names) for one in result.groups)]


def _group_row(group: Group, names: Sequence[str]) -> list[str]:
    settings = ", ".join(f"{key} = {value}" for key, value in group.settings.items()) or "all"
    done = f"{group.finished}/{len(group.members)}"
    figures = (group.figures.get(name) for name in names)
    return [settings, done, *(_interval(one) if one else "" for one in figures)]


def _interval(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.mean:.4f}"
    return f"{one.mean:.4f} ({one.low:.4f} to {one.high:.4f})"


def _member_rows(result: SweepResult) -> Rows:
    names = _shown(result, [one.figures for one in result.members])
    heading = ["member", "status", "steps", "best epoch", *names, "error"]
    rows = [_member_row(one, names) for one in result.members]
    if any(one.error for one in result.members):
        return [heading, *rows]
    return [heading[:-1], *(row[:-1] for row in rows)]


def _member_row(one: MemberResult, names: Sequence[str]) -> list[str]:
    figures = (one.figures.get(name) for name in names)
    return [
        one.name,
        one.status,
        f"{one.step}/{one.steps}",
        str(one.epoch or ""),
        *("" if value is None else f"{value:.4f}" for value in figures),
        one.error,
    ]


def _shown(result: SweepResult, figures: Sequence[Mapping[str, object]]) -> list[str]:
    """The figure that members are compared by, then the others, as many as a table has room for."""
    names = dict.fromkeys(name for one in figures for name in one)
    first = [result.by] if result.by in names else []
    return [*first, *(name for name in names if name != result.by)][:_MAX_FIGURES]


def _markdown(rows: Rows) -> str:
    lines = [[visible(cell).replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] * len(rows[0])
    return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))
