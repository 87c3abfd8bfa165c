"""The sweep file of docs/how_to/sweeps.md is trained in miniature."""

import re
from pathlib import Path

from epalm.train.options.command_options import TrainOptions
from epalm.train.sweep.sweep_file import OPTIONS, OWN_OPTIONS, read_sweep
from tests.repository import ROOT
from tests.train.helpers import make_world
from tests.train.sweep.helpers import result_of, sweep

PAGE = (ROOT / "docs" / "how_to" / "sweeps.md").read_text(encoding="utf-8")


def test_the_sweep_file_of_the_page_trains(tmp_path: Path) -> None:
    make_world(tmp_path)
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    small = {
        "cache/coco_vitb16.zarr": "store.zarr",
        "models/opt-350m": "lm",
        '"small"': '"./r.toml"',
    }
    for name, replacement in small.items():
        assert name in text
        text = text.replace(name, replacement)
    (tmp_path / "r.toml").write_text((tmp_path / "recipe.toml").read_text())
    (tmp_path / "layers.toml").write_text(text)
    assert sweep(tmp_path / "layers.toml") == 0
    result = result_of(tmp_path / "layers.toml")
    statuses = [one["status"] for one in result["members"]]
    assert (statuses.count("finished"), statuses.count("given up")) == (2, 7)
    assert "slow-prompt" in {one["name"] for one in result["members"]}
    chart = (tmp_path / "runs" / "layers" / "sweep.svg").read_text()
    assert chart.startswith("<?xml")


def test_every_option_of_training_is_a_key_of_the_file_or_of_the_command() -> None:
    named = set(TrainOptions.__dataclass_fields__)
    assert named == {*OPTIONS, *OWN_OPTIONS, "changes", "as_json"}


def test_the_page_names_the_files_of_a_sweep(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text("[grid]\nlr = [0.1]\n")
    assert [one.name for one in read_sweep(file).members] == ["lr-0.1"]
    for name in ("sweep.json", "sweep.md", "sweep.png", "sweep.svg", "progress.json"):
        assert f"`{name}`" in PAGE
