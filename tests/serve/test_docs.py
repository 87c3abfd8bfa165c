"""The examples of docs/how_to/serving.md, run against a server."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.ask.small_runs import SmallRun
from tests.repository import ROOT

PAGE = (ROOT / "docs" / "how_to" / "serving.md").read_text(encoding="utf-8")


def example(name: str, client: httpx.Client, question: str) -> str:
    """The code block below a marker, with the address and the question of the test."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found
    code = found[1].replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
    assert "which shape is red?" in code
    return code.replace("which shape is red?", question)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
def test_the_curl_example_prints_the_answer(
    client: httpx.Client, run: SmallRun, tmp_path: Path
) -> None:
    prediction = run.predictions[0]
    shutil.copy(run.file(prediction), tmp_path / "kitchen.png")
    script = example("curl", client, prediction["prompt"])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    assert f'"content":"{prediction["prediction"]}"' in done.stdout.decode()


def test_the_openai_example_prints_the_answer(
    client: httpx.Client, run: SmallRun, tmp_path: Path
) -> None:
    prediction = run.predictions[0]
    shutil.copy(run.file(prediction), tmp_path / "kitchen.png")
    script = example("openai", client, prediction["prompt"])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=True, text=True
    )
    answer, probability = done.stdout.split("\n")[:2]
    assert answer == prediction["prediction"]
    assert 0 < float(probability) <= 1
