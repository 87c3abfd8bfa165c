import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_beats_its_blind_control_by_25_points_without_a_network(tmp_path: Path) -> None:
    script = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('the demo opened a connection')\n"
        "socket.socket.connect = refuse\n"
        "from epalm.demo.cli import main; main()"
    )
    out = tmp_path / "demo"
    command = [sys.executable, "-c", script, "--out", str(out), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(out / "report.html").replace("\n", "") in done.stdout.replace("\n", "")
    score = {}
    for name in ("blind", "full"):
        found = list((out / "runs" / name / "eval").glob("*/scores.json"))
        assert len(found) == 1
        score[name] = json.loads(found[0].read_text())["scores"]["exact_match"]["value"]
    assert score["full"] > score["blind"] + 0.25
