"""The commands that the benchmark of sweeps compares train the same members."""

import json
from pathlib import Path

from bench.sweep import SETTINGS, Plan, Usage, gaps, label, resources
from epalm.train.sweep.sweep_file import read_sweep


def test_single_commands_and_the_sweep_have_the_same_settings(tmp_path: Path) -> None:
    base = {"features": "/s.zarr", "lm": "/lm", "recipe": "small", "epochs": 6, "batch_size": 32}
    plan = Plan(tmp_path, base, {"rungs": [1, 2], "keep": 0.5, "by": ""})
    commands = plan.commands(whole=True)
    assert list(commands) == [*(label(*one) for one in SETTINGS), "halved", "whole"]
    sweep = read_sweep(tmp_path / "halved.toml")
    assert sweep.base == base
    assert sweep.halving is not None
    assert sweep.halving.rungs == (1, 2)
    assert read_sweep(tmp_path / "whole.toml").halving is None
    members = [(one.settings["variant"], one.settings["lr"]) for one in sweep.members]
    assert members == list(SETTINGS)
    expected = "--features=/s.zarr --lm=/lm --recipe=small --variant=full --set=epochs=6"
    expected += " --set=batch_size=32 --set=lr=0.001 --name=full-0.001"
    assert commands["full-0.001"] == expected.split()


def write_run(folder: Path, cider: float, loss: float) -> None:
    folder.mkdir(parents=True)
    line = {"kind": "val", "step": 10, "epoch": 1, "cider": cider, "loss": loss}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def test_ratios_and_gaps_are_those_worked_by_hand(tmp_path: Path) -> None:
    for number, one in enumerate(SETTINGS):
        write_run(
            tmp_path / "runs" / label(*one), cider=0.1 * (number + 1), loss=4.0 - 0.1 * number
        )
    found = {"name": "best", "figures": {"cider": 0.78, "loss": 3.6}}
    (tmp_path / "runs" / "halved").mkdir()
    (tmp_path / "runs" / "halved" / "sweep.json").write_text(
        json.dumps({"best": "best", "members": [found]})
    )
    lines = gaps(Plan(tmp_path, {}, {}))
    assert [round(line.value, 4) for line in lines] == [0.8, 0.78, 0.025, 3.3, 3.6, 0.0909]
    assert [line.met for line in lines] == [None, None, True, None, None, None]
    usages = {label(*one): Usage(label(*one), 10.0, 100) for one in SETTINGS}
    usages |= {"halved": Usage("halved", 44.0, 110), "whole": Usage("whole", 60.0, 150)}
    values = resources(usages, whole=True)
    assert [line.value for line in values] == [80.0, 0.0001, 0.55, 1.1, 0.75, 1.5]
    assert [line.met for line in values] == [None, None, False, True, None, False]
