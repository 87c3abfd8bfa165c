import errno
import io
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated

import pytest
import typer
from rich.table import Table

import epalm
from epalm import console
from epalm.errors import CacheMismatchError
from epalm.terminal import PlainConsole, visible

app = typer.Typer()


@app.command()
def command(ending: str) -> None:
    if ending == "mismatch":
        raise CacheMismatchError("[red]found[/red] one,\n    " + "expected another " * 20)
    if ending.startswith("\x1b"):
        raise CacheMismatchError(ending)
    if ending == "interrupt":
        raise KeyboardInterrupt
    if ending.isdecimal():
        raise OSError(int(ending), os.strerror(int(ending)), "scores.json")
    if ending == "bug":
        raise ZeroDivisionError
    for _ in range(20_000):
        sys.stdout.write("result\n")


if __name__ == "__main__":
    console.run_app(app)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed to an error console that is no terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(console, "err_console", PlainConsole(file=stream, force_terminal=False))
    return stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of one entry that tests set by hand."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def epalm_logger() -> logging.Logger:
    return logging.getLogger("epalm")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Runs the command above with one argument; gives the exit code."""

    def exit_code(argument: str) -> object:
        monkeypatch.setattr("sys.argv", ["command", argument])
        monkeypatch.setattr("sys.excepthook", sys.excepthook)  # typer puts its own there
        try:
            console.run_app(app)
        except SystemExit as end:
            return end.code
        return 0

    return exit_code


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (1_136_213_100, "1.14 GB"),
        (2.5e12, "2.5 TB"),
        (4.2e15, "4200 TB"),
    ],
)
def test_sizes_have_three_digits_and_never_an_exponent(count: float, text: str) -> None:
    assert console.byte_size(count) == text


def test_plain_progress_prints_one_line_every_ten_seconds_and_one_at_the_end(
    lines: io.StringIO, clock: list[float]
) -> None:
    with console.progress("photos", total=100, unit="photo") as tick:
        for second in range(25):
            clock[0] = second + 1.0
            tick(4, f"round {second}")
    assert lines.getvalue().splitlines() == [
        "photos: 40/100 · 4.0 photo/s · 15 s left  round 9",
        "photos: 80/100 · 4.0 photo/s · 5 s left  round 19",
        "photos: 100/100 · 4.0 photo/s · 0 s left  round 24",
    ]


def test_more_units_than_announced_leave_no_negative_time(
    lines: io.StringIO, clock: list[float]
) -> None:
    with console.progress("photos", total=2, unit="photo") as tick:
        clock[0] = 1.0
        tick(5)
    assert lines.getvalue() == "photos: 5/2 · 5.0 photo/s · 0 s left\n"


def test_square_brackets_in_titles_and_notes_are_printed_as_they_are(lines: io.StringIO) -> None:
    with console.progress("[bold]", total=1, unit="photo") as tick:
        tick(1, "[red]")
    assert lines.getvalue().startswith("[bold]: 1/1")
    assert lines.getvalue().endswith("[red]\n")


def test_what_was_done_before_counts_as_done_but_not_for_the_rate(
    lines: io.StringIO, clock: list[float]
) -> None:
    with console.progress("training", total=1000, unit="steps", done=900) as tick:
        clock[0] = 50.0
        tick(5)
    assert lines.getvalue() == "training: 905/1000 · 0.1 steps/s · 15 min 50 s left\n"


def test_an_unknown_total_prints_no_line_for_each_piece(
    lines: io.StringIO, clock: list[float]
) -> None:
    with console.progress("downloading", total=0, unit=console.BYTES) as tick:
        for second in range(1, 13):
            clock[0] = float(second)
            tick(1_000_000)
    assert lines.getvalue() == "downloading: 10 MB · 1 MB/s · 10 s so far\n"


def test_the_bar_shows_the_time_left_however_slow_the_steps_are(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    stream = io.StringIO()
    terminal = PlainConsole(file=stream, force_terminal=True, width=120)
    monkeypatch.setattr(console, "err_console", terminal)
    with console.progress("training", total=10, unit="steps") as tick:
        clock[0] = 90.0
        tick(1)
        clock[0] = 180.0
        tick(1)
        clock[0] = 200.0
    shown = stream.getvalue()
    assert "2/10 · 0.011 steps/s · 11 min 40 s left" in shown


HOSTILE = "\x1b]0;x\x07\x1b[2J"
"""An id that sets the title of a terminal and clears its screen."""


def test_control_characters_are_printed_as_escapes_everywhere(
    lines: io.StringIO,
    clock: list[float],
    run: Callable[[str], object],
    capsys: pytest.CaptureFixture[str],
    epalm_logger: logging.Logger,
) -> None:
    hostile = f"{HOSTILE}\r\n\u202e[bold]:smile:\udcff"
    table = Table(title=hostile)
    table.add_column(hostile)
    table.add_row(hostile)
    console.show_table(table)
    console.say(hostile)
    console.say_json({"id": hostile})
    console.note(hostile)
    console.configure_logging(quiet=False)
    epalm_logger.info("%s", hostile)
    with console.progress(hostile, total=1, unit="photo") as tick:
        clock[0] = 1.0
        tick(1, hostile)
    run(hostile)
    out = capsys.readouterr().out
    escaped = r"\u001b]0;x\u0007\u001b[2J\r\n\u202e[bold]:smile:\udcff"
    for shown, count in ((out, 5), (lines.getvalue(), 4)):
        assert shown.count(escaped) == count
        assert not set(shown) & set(HOSTILE[:1] + "\x07\r\u202e\udcff")
    assert json.loads(out.splitlines()[-1]) == {"id": hostile}


def test_the_bar_shows_control_characters_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    terminal = PlainConsole(file=stream, force_terminal=True, width=200)
    monkeypatch.setattr(console, "err_console", terminal)
    with console.progress(HOSTILE, total=1, unit="photo") as tick:
        tick(1, HOSTILE)
    assert "\x1b]0" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert stream.getvalue().count(r"\u001b]0;x\u0007\u001b[2J") >= 2


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("Ünïcode, 日本語", "👩\u200d🎓", "a\\b", "[red]", "نص"):
        assert visible(text) == text


def test_a_log_without_a_terminal_has_one_line_per_record(
    lines: io.StringIO, epalm_logger: logging.Logger
) -> None:
    console.configure_logging(quiet=False)
    path = "/".join(["a long name of a folder"] * 20)
    epalm_logger.info("wrote %s", path)
    assert lines.getvalue() == f"wrote {path}\n"


def test_a_piped_table_is_as_wide_as_its_cells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(title="a title that is wider than the cells" * 2)
    table.add_column("name")
    table.add_column("score")
    table.add_row("n" * 150, "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    console.show_table(table)
    assert "n" * 150 in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "80")
    console.show_table(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) == 80


@pytest.mark.parametrize("columns", ["0", "1", "x", ""])
def test_no_number_of_columns_hides_what_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = Table(title="title")
    table.add_column("score")
    console.show_table(table)
    console.say("a result")
    out = capsys.readouterr().out
    assert "│ score" in out.replace("┃", "│")
    assert "a result\n" in out


def test_a_step_without_a_note_leaves_the_one_before(
    lines: io.StringIO, clock: list[float]
) -> None:
    with console.progress("training", total=3, unit="steps") as tick:
        tick(1, "loss 0.5")
        clock[0] = 11.0
        tick(1)
        tick(1, "")
    assert [line.endswith("loss 0.5") for line in lines.getvalue().splitlines()] == [True, False]


def test_quiet_progress_prints_nothing(lines: io.StringIO) -> None:
    with console.progress("photos", total=1, unit="photo", quiet=True) as tick:
        tick(1, "done")
    assert lines.getvalue() == ""


def test_a_terminal_gets_a_bar_with_rate_and_note(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    terminal = PlainConsole(file=stream, force_terminal=True, width=200)
    monkeypatch.setattr(console, "err_console", terminal)
    with console.progress("photos", total=4, unit="photo") as tick:
        tick(4, "loss 0.5")
    shown = stream.getvalue()
    assert "4/4" in shown
    assert "photo/s" in shown
    assert "loss 0.5" in shown


def test_quiet_silences_notes_but_not_warnings(
    lines: io.StringIO, epalm_logger: logging.Logger
) -> None:
    for quiet in (False, True):
        console.configure_logging(quiet=quiet)
        logging.getLogger("epalm.extract.run_extraction").info("a note")
        logging.getLogger("epalm.extract.run_extraction").warning("a warning")
    output = [line.rstrip() for line in lines.getvalue().splitlines()]
    assert output == ["a note", "a warning", "a warning"]


def test_an_error_is_one_line_on_standard_error_and_its_exit_code(
    run: Callable[[str], object], lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("mismatch") == 4
    output = "error: [red]found[/red] one, " + " ".join(["expected another"] * 20)
    assert lines.getvalue().splitlines() == [output]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("value", "shown"), [(412.26, "412.3"), (1.0, "1.0"), (0.0831, "0.083")])
def test_a_slow_rate_is_not_rounded_to_zero(value: float, shown: str) -> None:
    assert console.decimal(value) == shown


def test_help_ends_with_the_examples_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["command", "--help"])
    with pytest.raises(SystemExit):
        console.run_app(app, examples=("command one", "command two"))
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    first = shown.index("Examples:")
    assert shown[first + 1 : first + 3] == ["command one", "command two"]


def test_every_command_tells_its_version_and_that_it_does(
    run: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"epalm {epalm.__version__}\n"
    assert run("--help") == 0
    assert "--version: print the version" in capsys.readouterr().out


@pytest.mark.parametrize(("ending", "code"), [("none", 0), ("--absent", 2)])
def test_other_endings_have_their_usual_exit_codes(
    run: Callable[[str], object], ending: str, code: int
) -> None:
    assert run(ending) == code


def test_ctrl_c_ends_every_command_with_one_line_and_the_code_of_a_stop(
    run: Callable[[str], object], lines: io.StringIO
) -> None:
    assert run("interrupt") == 75
    assert lines.getvalue() == "error: stopped before the end: run the same command again\n"


def test_a_defect_is_not_passed_off_as_an_error_of_the_user(run: Callable[[str], object]) -> None:
    with pytest.raises(ZeroDivisionError):
        run("bug")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG])
def test_what_the_file_system_refuses_is_one_line(
    run: Callable[[str], object], lines: io.StringIO, number: int
) -> None:
    assert run(str(number)) == 1
    assert lines.getvalue().startswith(
        f"error: scores.json: {os.strerror(number)}; free some space"
    )
    assert lines.getvalue().count("\n") == 1


def test_other_errors_of_the_system_are_defects(run: Callable[[str], object]) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        run(str(errno.EINVAL))


def test_an_output_that_knows_ascii_only_gets_escapes() -> None:
    code = (
        "import typer; from epalm.console import run_app, say\n"
        "app = typer.Typer()\n"
        "app.command()(lambda: say('50 \\u00d7 \\u65e5'))\n"
        "run_app(app)"
    )
    command = [sys.executable, "-c", code]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=ascii_only, check=True)
    assert done.stdout == rb"50 \xd7 \u65e5" + b"\n"


def test_a_reader_that_closes_the_pipe_ends_a_command_quietly() -> None:
    command = [sys.executable, __file__, "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


json_app = typer.Typer()


@json_app.command()
def json_command(ending: str, *, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    if ending == "late":
        console.say_json({"fits": False})
    if ending in ("mismatch", "late"):
        raise CacheMismatchError("found one,\n  expected another")
    if ending == "bug":
        raise ZeroDivisionError("division by zero")
    if ending == "incomplete":
        raise typer.Exit(3)
    if ending == "interrupt":
        raise KeyboardInterrupt
    console.say_json({"score": math.nan, "list": [math.inf, 1.5, {"none": None}]})


def json_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[object, object]:
    """Exit code, and the only line of standard output."""
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    code: object = 0
    try:
        console.run_app(json_app)
    except SystemExit as end:
        code = end.code
    except ZeroDivisionError:
        code = "traceback"
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return code, json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_result_as_json_has_null_for_what_json_cannot_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {"score": None, "list": [None, 1.5, {"none": None}]}
    assert json_of(monkeypatch, capsys, "none", "--json") == (0, expected)


def test_an_error_is_the_document_unless_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: io.StringIO
) -> None:
    message = "found one, expected another"
    error = {"type": "CacheMismatchError", "message": message, "exit_code": 4}
    for _ in range(2):  # the second command of a process as well
        assert json_of(monkeypatch, capsys, "mismatch", "--json") == (4, {"error": error})
    assert lines.getvalue() == f"error: {message}\n" * 2
    assert json_of(monkeypatch, capsys, "late", "--json") == (4, {"fits": False})


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["none", "--json", "--absent"], 2, "UsageError"),
        (["incomplete", "--json"], 3, "Error"),
        (["interrupt", "--json"], 75, "Stopped"),
        (["bug", "--json"], "traceback", "ZeroDivisionError"),
    ],
)
def test_every_other_ending_is_an_error_in_json_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: object,
    kind: str,
) -> None:
    ended, document = json_of(monkeypatch, capsys, *arguments)
    assert ended == code
    assert isinstance(document, dict)
    assert document["error"]["type"] == kind


def test_of_several_processes_rank_0_prints_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: io.StringIO
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("sys.argv", ["command", "mismatch", "--json"])
    with pytest.raises(SystemExit):
        console.run_app(json_app)
    assert capsys.readouterr().out == ""
    assert "found one" in lines.getvalue()
