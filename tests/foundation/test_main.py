"""The command `epalm`, which starts the others."""

import subprocess
import sys
import tomllib

import pytest

from epalm.__main__ import COMMANDS
from tests.repository import ROOT


def test_every_command_with_a_script_of_its_own_is_a_subcommand() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    scripts = {name: entry for name, entry in project["scripts"].items() if name != "epalm"}
    assert scripts == {f"epalm-{name}": f"{module}:main" for name, (module, _) in COMMANDS.items()}


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--help"], 0, "  extract  Run a frozen encoder"),
        (["train", "--help"], 0, "Usage: epalm train"),
        (["eval", "--split", "val", "--runs", "nowhere"], 1, "there is no run in"),
        (["extract", "status", "--help"], 0, "Usage: epalm extract status"),
        (["tarin"], 2, "Did you mean"),
        (["--version"], 0, "epalm "),
    ],
)
def test_words_after_the_command_are_passed_to_it(
    words: list[str], code: int, expected: str
) -> None:
    command = [sys.executable, "-m", "epalm", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert expected in done.stdout + done.stderr
