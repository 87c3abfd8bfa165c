"""The console of all commands: results, notes, progress, and errors as one line.

Text from files of strangers is escaped, see `epalm.terminal`.
"""

import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer
from rich.cells import cell_len
from rich.text import Text

import epalm
from epalm.errors import Stopped
from epalm.failures import explained
from epalm.json_document import ENDINGS, JsonDocument, error_document
from epalm.options import examples_epilog
from epalm.terminal import PlainConsole, visible

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.table import Table

PLAIN_LINE_SECONDS = 10.0
"""Seconds between two progress lines if the output is not a terminal."""

BYTES = "bytes"
"""Unit of a progress display that shows sizes, e.g. `1.2 MB`, instead of counts."""

TYPER_INTERRUPTED = 130
"""Exit code with which typer ends a command on Ctrl-C, without a message."""

_WIDEST_TABLE = 10_000
"""Maximum columns of a table that is written to a file or a pipe."""

err_console = PlainConsole(stderr=True)
"""Console for progress, notes and errors; standard output is for results."""

document = JsonDocument()
"""What --json prints."""

out_console = PlainConsole()
"""Console for results: tables and, with --json, machine-readable output."""


def say(line: str) -> None:
    """Print one line of a result to standard output, however long."""
    out_console.print(line, soft_wrap=True)


def say_json(values: object) -> None:
    """Print a result as one line of JSON to standard output; NaN and infinity become null."""
    say(document.line(values))


def note(line: str) -> None:
    """Print one line that is no result to standard error, however long."""
    err_console.print(line, soft_wrap=True)


def show_table(table: "Table") -> None:
    """Print a table to standard output, with its title on one line if it fits.

    Its width is limited by the terminal or the environment variable COLUMNS; in a file or a pipe
    it is as wide as its cells.
    """
    limited = out_console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
    available = out_console.width if limited else _WIDEST_TABLE
    if isinstance(table.title, str):
        table.min_width = min(cell_len(visible(table.title)), available)
    width = out_console.measure(table, options=out_console.options.update(width=available)).maximum
    PlainConsole(file=out_console.file, width=width).print(table)


class Ticker(Protocol):
    """Advances a progress display; `note` replaces the text after the bar unless it is None."""

    def __call__(self, count: int, note: str | None = None) -> None:
        """Add `count` finished units."""


class _LineHandler(logging.Handler):
    """Prints each record as one line, whatever the width of the terminal.

    Importing rich's own handler takes a third of a second.
    """

    def emit(self, record: logging.LogRecord) -> None:
        note(self.format(record))


def configure_logging(*, quiet: bool) -> None:
    """Print `epalm.*` log records on standard error: from INFO up, or from WARNING if quiet."""
    logger = logging.getLogger("epalm")
    logger.handlers = [_LineHandler()]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


@contextmanager
def progress(
    title: str, *, total: int, unit: str, done: int = 0, quiet: bool = False
) -> Iterator[Ticker]:
    """Show units done, units/s and the remaining time: a bar on a terminal, else plain lines.

    Args:
        title: description of the work.
        total: number of units; 0 if it is unknown.
        unit: plural noun, or `BYTES`.
        done: units done before, e.g. in a run that is resumed; they do not count for the rate.
        quiet: show nothing.
    """
    pace = _Pace(total, unit, done)
    if quiet:
        yield _silent
    elif err_console.is_terminal:
        with _bar(pace) as bar:
            task = bar.add_task(visible(title), total=total or None, completed=done)
            yield _bar_ticker(bar, task, pace)
    else:
        yield _line_ticker(title, pace)


class _Pace:
    """Progress and rate of the work in this process."""

    def __init__(self, total: int, unit: str, done: int) -> None:
        self.total, self.unit, self.first, self.done = total, unit, done, done
        self.started = self.last = time.monotonic()
        self.note = ""

    def add(self, count: int, note: str | None) -> None:
        self.done, self.last = self.done + count, time.monotonic()
        self.note = self.note if note is None else note

    @property
    def per_second(self) -> float:
        """Units per second until the last finished unit; 0 before the first."""
        return (self.done - self.first) / max(self.last - self.started, 1e-9)

    def amount(self) -> str:
        """Format the units done, e.g. "3/10", or "3" if the total is unknown."""
        counts = (self.done, self.total) if self.total else (self.done,)
        return "/".join(map(byte_size if self.unit == BYTES else str, counts))

    def rate(self) -> str:
        """Format the rate, e.g. "4.0 images/s"; empty before the first finished unit."""
        rate = self.per_second
        if not rate:
            return ""
        return f"{byte_size(rate)}/s" if self.unit == BYTES else f"{decimal(rate)} {self.unit}/s"

    def time(self) -> str:
        """Format the remaining time at this rate; the elapsed time if that is unknown."""
        now, rate = time.monotonic(), self.per_second
        if not rate or not self.total:
            return f"{duration(now - self.started)} so far"
        left = max(self.total - self.done, 0) / rate - (now - self.last)
        return f"{duration(max(left, 0))} left"


def _silent(count: int, note: str | None = None) -> None:
    del count, note


def _bar(pace: _Pace) -> "Progress":
    # imported here: most commands show no bar
    from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn

    class PaceColumn(ProgressColumn):
        """Computed at every redraw, so that the remaining time counts down during slow steps."""

        def render(self, task: "Task") -> Text:
            del task
            parts = (pace.amount(), pace.rate(), pace.time(), visible(pace.note))
            return Text(" · ".join(part for part in parts if part))

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        PaceColumn(),
        console=err_console,
    )


def _bar_ticker(bar: "Progress", task_id: Any, pace: _Pace) -> Ticker:  # noqa: ANN401 - rich's
    def tick(count: int, note: str | None = None) -> None:
        pace.add(count, note)
        bar.update(task_id, completed=pace.done)

    return tick


def _line_ticker(title: str, pace: _Pace) -> Ticker:
    shown = pace.started

    def tick(count: int, note: str | None = None) -> None:
        nonlocal shown
        pace.add(count, note)
        if pace.last - shown < PLAIN_LINE_SECONDS and (not pace.total or pace.done < pace.total):
            return
        shown = pace.last
        figures = " · ".join((pace.amount(), pace.rate(), pace.time()))
        err_console.print(f"{title}: {figures}  {pace.note}".rstrip(), soft_wrap=True)

    return tick


def duration(seconds: float) -> str:
    """Format a duration: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def decimal(value: float) -> str:
    """Format a positive rate: one decimal, or two significant digits below 1, `5.3`, `0.083`."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def byte_size(count: float) -> str:
    """Format a number of bytes in powers of 1000: `1.14 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:  # larger counts would be rounded to 1e+03
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 999.5 else f"{count:.0f} TB"


def counted(count: int, noun: str) -> str:
    """Format a number and a noun: `1 shard`, `2 shards`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextmanager
def stoppable() -> Iterator[None]:
    """End the command with exit code 75 on Ctrl-C, or a termination signal that raises the same."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(
            "stopped; finished work is kept: run the same command again to resume"
        ) from stop


@contextmanager
def _interrupted_by_user() -> Iterator[None]:
    """End a command that does not handle Ctrl-C in the same way as those that resume."""
    try:
        yield
    except SystemExit as ended:
        if ended.code != TYPER_INTERRUPTED:
            raise
        raise Stopped("stopped before the end: run the same command again") from ended


def run_app(app: typer.Typer, *, examples: tuple[str, ...] = ()) -> None:
    """Run a typer command; print an `EpalmError` as one line and exit with its code.

    The same holds for exceptions that `epalm.failures` explains, e.g. a full disk. Every command
    has --version. Ctrl-C ends all commands with `Stopped`; those that resume say so, see
    `stoppable`. Typer handles usage errors (2) and a reader that closes the pipe (1). The help
    ends with `examples`. With --json, standard output gets one line of JSON in any case: a command
    that ends with an error before its result prints {"error": {"type", "message", "exit_code"}}.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the default of standard error
    if sys.argv[1:] == ["--version"]:
        say(f"epalm {epalm.__version__}")
        return
    app.rich_markup_mode = None  # rich's help doubles the time of `--help`
    described = app.info if app.registered_callback else app.registered_commands[0]
    shown = f"{examples_epilog(*examples)}\n" if examples else ""
    described.epilog = f"{shown}--version: print the version of epalm and exit."
    document.printed = False
    program = Path(sys.argv[0]).name
    try:
        with _interrupted_by_user():
            app(prog_name="epalm" if program == "__main__.py" else program)
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code:
            kind = ENDINGS.get(ended.code, "Error")
            _say_error("standard error has the message", kind, ended.code)
        raise
    except Exception as error:
        found = explained(error)
        message, code = found or (repr(error), 1)
        message = " ".join(message.split())
        _say_error(message, type(error).__name__, code)
        if found is None:
            raise
        note(f"error: {message}")
        sys.exit(code)


def _say_error(message: str, kind: str, code: int) -> None:
    if document.missing():
        with suppress(OSError):  # a closed pipe
            say_json(error_document(message, kind, code))
