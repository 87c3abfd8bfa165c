import json
import subprocess
import sys
from pathlib import Path

import pytest

from epalm.demo.modalities import MODALITIES


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
def test_the_demo_beats_its_blind_control_by_30_points_without_network_and_java(
    modality: str, tmp_path: Path
) -> None:
    script = (
        "import os, socket\n"
        "def refuse(*_): raise AssertionError('the demo opened a connection')\n"
        "socket.socket.connect = refuse\n"
        "os.environ['PATH'] = ''\n"
        "from epalm.demo.cli import main; main()"
    )
    out = tmp_path / "demo"
    options = ["--modality", modality, "--out", str(out), "--quiet", "--json"]
    command = [sys.executable, "-c", script, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    page = out / modality / "report.html"
    assert page.is_file()
    (document,) = json.loads(done.stdout)["modalities"]
    assert document["report"] == str(page)
    assert [run["blind"] for run in document["runs"]] == [True, False, False]
    score = {}
    for name in ("blind", "full"):
        actual = list((out / modality / "runs" / name / "eval").glob("*/scores.json"))
        assert len(actual) == 1
        scores = json.loads(actual[0].read_text())["scores"]
        score[name] = scores[MODALITIES[modality].scores[0]]["value"]
    assert score["full"] > score["blind"] + 0.30
