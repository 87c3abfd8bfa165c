"""What every command shares: one console, progress on any kind of output, errors as one line."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import typer
from rich.console import Console

import epalm
from epalm.errors import EpalmError, Stopped

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_LINE_SECONDS = 10.0
"""Seconds between two progress lines where the output is no terminal."""

err_console = Console(stderr=True)
"""Progress, notes and errors; standard output is left to results."""

out_console = Console()
"""Results: tables and, with --json, machine-readable output."""


class Ticker(Protocol):
    """Advances a progress display; `note` replaces the text behind the bar."""

    def __call__(self, count: int, note: str = "") -> None:
        """Add `count` finished units."""


def configure_logging(*, quiet: bool) -> None:
    """Send `epalm.*` log records to standard error: all from INFO up, or from WARNING if quiet."""
    logger = logging.getLogger("epalm")
    logger.handlers = [_ConsoleHandler()]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


class _ConsoleHandler(logging.Handler):
    """Prints each record as one line, whatever the width of the terminal.

    rich's own handler takes a third of a second to import.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message."""
        err_console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(title: str, *, total: int, unit: str, quiet: bool = False) -> Iterator[Ticker]:
    """Show units done, units/s and the time left: a bar on a terminal, else plain lines."""
    if quiet:
        yield _silent
    elif err_console.is_terminal:
        with _bar() as bar:
            task = bar.add_task(title, total=total, rate="", note="")
            yield _bar_ticker(bar, task, unit)
    else:
        yield _line_ticker(title, total, unit)


def _silent(count: int, note: str = "") -> None:
    del count, note


def _bar() -> "Progress":
    from rich.progress import (  # most commands end without a bar
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err_console,
    )


def _bar_ticker(bar: "Progress", task_id: object, unit: str) -> Ticker:
    started, done = time.monotonic(), 0

    def tick(count: int, note: str = "") -> None:
        nonlocal done
        done += count
        rate = done / max(time.monotonic() - started, 1e-9)
        bar.update(task_id, advance=count, rate=f"{rate:.1f} {unit}/s", note=note)  # type: ignore[arg-type]

    return tick


def _line_ticker(title: str, total: int, unit: str) -> Ticker:
    started, done, shown = time.monotonic(), 0, time.monotonic()

    def tick(count: int, note: str = "") -> None:
        nonlocal done, shown
        done += count
        now = time.monotonic()
        if now - shown < PLAIN_LINE_SECONDS and done < total:
            return
        shown = now
        rate = done / max(now - started, 1e-9)
        left = duration(max(total - done, 0) / rate) if rate else "?"
        line = f"{title}: {done}/{total} · {rate:.1f} {unit}/s · {left} left  {note}"
        err_console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)

    return tick


def duration(seconds: float) -> str:
    """A length of time as people write it: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def byte_size(count: float) -> str:
    """A number of bytes as people write it, in powers of 1000: `1.14 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:  # what follows would be rounded to 1e+03
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 999.5 else f"{count:.0f} TB"


def counted(count: int, noun: str) -> str:
    """A number of things as people write it: `1 shard`, `2 shards`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C, and a termination signal that raises the same, end the command with exit code 75."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped("stopped; what was finished is kept, the same command goes on") from stop


def run_app(app: typer.Typer) -> None:
    """Run a typer command; an `EpalmError` becomes one line and its exit code.

    Every command knows --version, which its help names below all options. Typer itself sees to
    usage errors (2), Ctrl-C (130) and a reader that closes the pipe (1).
    """
    if sys.argv[1:] == ["--version"]:
        out_console.print(f"epalm {epalm.__version__}", markup=False, highlight=False)
        return
    app.rich_markup_mode = None  # rich's help takes half of the time of `--help`
    described = app.info if app.registered_callback else app.registered_commands[0]
    described.epilog = "--version: print the version of epalm and exit."
    try:
        app()
    except EpalmError as error:
        message = " ".join(str(error).split())
        err_console.print(f"error: {message}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
