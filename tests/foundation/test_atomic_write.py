"""Errors of writing name the file, although the system's own do not once a file is open."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from epalm.atomic_write import named, write_binary
from epalm.evaluate.report.report_files import write_page
from tests.ask.small_runs import small_run

LIMIT = 1000
"""Bytes that a file may have in these tests; the system reports more like a full disk."""


@contextmanager
def limited_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_written_is_named_and_keeps_its_content(tmp_path: Path) -> None:
    file = tmp_path / "chart.png"
    write_binary(file, b"before")
    with limited_files(), pytest.raises(OSError, match=r"chart\.png") as caught:
        write_binary(file, bytes(LIMIT + 1))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(file))
    assert [one.name for one in tmp_path.iterdir()] == ["chart.png"]
    assert file.read_bytes() == b"before"


def test_an_open_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file, other = tmp_path / "answers.jsonl", tmp_path / "none" / "other"
    with (
        limited_files(),
        pytest.raises(OSError, match=r"answers\.jsonl'$"),
        named(file),
        file.open("wb") as opened,
    ):
        opened.write(bytes(LIMIT + 1))
    with pytest.raises(FileNotFoundError, match="other"), named(file):
        other.read_bytes()


def test_a_report_without_space_names_the_file_that_could_not_be_written() -> None:
    run = small_run().run
    (evaluation,) = sorted((run / "eval").iterdir())[:1]
    with limited_files(), pytest.raises(OSError, match="File too large") as caught:
        write_page(run, evaluation)
    assert Path(caught.value.filename).parent == evaluation
