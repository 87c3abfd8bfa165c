"""Sweeps over the world of colored pictures."""

import json
from pathlib import Path

from typer.testing import CliRunner

from epalm.train.cli import app
from tests.train.helpers import World

BASE = """
features = "./store.zarr"
recipe = "./recipe.toml"
"""


def write_sweep(world: World, text: str, name: str = "some") -> Path:
    """A sweep file beside the world's store, with the base settings before `text`."""
    file = world.root / f"{name}.toml"
    file.write_text(BASE + text)
    return file


def sweep_command(file: Path, *extra: str) -> list[str]:
    """`epalm-train sweep`, as a list of arguments."""
    runs = file.parent / "runs"
    return ["sweep", str(file), "--out", str(runs), "--device", "cpu", "--quiet", *extra]


def sweep(file: Path, *extra: str) -> int:
    """Run a sweep; its exit code."""
    result = CliRunner().invoke(app, sweep_command(file, *extra))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code


def result_of(file: Path) -> dict:
    """The content of sweep.json."""
    return json.loads((file.parent / "runs" / file.stem / "sweep.json").read_text())


def member_folder(file: Path, name: str) -> Path:
    """Run folder of a member."""
    return file.parent / "runs" / file.stem / "members" / name
