"""`epalm-ask` on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from epalm.ask.cli import app
from epalm.errors import MissingFileError, UsageError
from tests.ask.small_runs import SmallRun


def ask(*words: object, stdin: str = "") -> Result:
    return CliRunner().invoke(app, [*map(str, words), "--device", "cpu"], input=stdin)


def test_the_answer_about_a_file_is_printed(image_run: SmallRun) -> None:
    one = image_run.predictions[0]
    result = ask(image_run.run, image_run.file(one), one["prompt"], "--quiet")
    assert result.exit_code == 0
    assert result.stdout == f"{one['prediction']}\n"


def test_files_that_cannot_be_decoded_are_named_and_the_others_answered(
    image_run: SmallRun, tmp_path: Path
) -> None:
    one = image_run.predictions[0]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    result = ask(image_run.run, image_run.file(one), broken, one["prompt"], "--json", "--quiet")
    assert result.exit_code == 3
    answered, failed = json.loads(result.stdout)
    assert answered["answer"] == one["prediction"]
    assert "not a supported image" in failed["error"]
    assert str(broken) in result.stderr


def test_questions_are_read_line_by_line(image_run: SmallRun) -> None:
    one = image_run.predictions[0]
    same = [each for each in image_run.predictions if each["key"] == one["key"]][:2]
    typed = "".join(f"{each['prompt']}\n" for each in same)
    result = ask(image_run.run, image_run.file(one), "--quiet", stdin=typed)
    assert result.stdout.splitlines() == [each["prediction"] for each in same]


def test_alternatives_are_listed_with_their_probability(image_run: SmallRun) -> None:
    one = image_run.predictions[0]
    result = ask(image_run.run, image_run.file(one), one["prompt"], "--top", 3, "--quiet")
    first, *others = result.stdout.splitlines()
    assert first == one["prediction"]
    assert len(others) == 3
    assert all(" %  " in line for line in others)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ((), UsageError, "give a file, e.g. epalm-ask full kitchen.jpg"),
        (("absent.png", "what?"), MissingFileError, "absent.png: no such file"),
        (("https://x.org/a.png",), MissingFileError, "is a URL: download the file first"),
    ],
)
def test_wrong_words_are_refused_before_torch_is_imported(
    image_run: SmallRun, words: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = ask(image_run.run, *words)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    script = (
        "import sys; from epalm.ask.cli import main\n"
        f"sys.argv = ['epalm-ask', {str(image_run.run)!r}, *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n"
        "    assert stop.code, stop.code\n    assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
