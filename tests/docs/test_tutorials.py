"""The tutorials and the notebook run from their first block to the last."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.ask.small_runs import small_run
from tests.docs.pages import DOCS
from tests.docs.running import run_bash
from tools.site.run_notebook import run_cells

NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
MEASURED = "measured"
"""Tag of cells whose figures may differ between machines."""


@pytest.mark.slow
def test_the_first_adapter_answers_better_than_its_control(tmp_path: Path) -> None:
    printed = run_bash("tutorials/first_adapter.md", tmp_path)
    assert "exact match" in printed
    scores = []
    for run in ("scenes", "scenes-blind"):
        (file,) = (tmp_path / "runs" / run).glob("eval/*/scores.json")
        assert (file.parent / "report.html").is_file()
        scores.append(json.loads(file.read_text(encoding="utf-8"))["scores"]["exact_match"])
    assert scores[0]["low"] > scores[1]["high"] + 0.1
    assert (tmp_path / "comparison.html").is_file()


@pytest.mark.slow
def test_the_commands_about_a_trained_run_answer(tmp_path: Path) -> None:
    images, sounds = small_run("image"), small_run("audio")
    shutil.copytree(images.run, tmp_path / "runs" / "scenes")
    shutil.copytree(sounds.run, tmp_path / "runs" / "captions")
    shutil.copy(next(images.folder.data.glob("media/*")), tmp_path / "scene.png")
    soundfile.write(tmp_path / "a.wav", *soundfile.read(next(sounds.folder.data.glob("media/*"))))
    line = {"id": "q17", "media": "scene.png", "prompt": "which shape is red?"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert run_bash("tutorials/using.md", tmp_path)
    assert (tmp_path / "questions.answers.jsonl").is_file()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_gives_the_outputs_in_its_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    outputs = run_cells(notebook)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(outputs) == len(cells) > 3
    for cell, output in zip(cells, outputs, strict=True):
        if MEASURED in cell["metadata"].get("tags", ()):
            assert bool(output) == bool(cell["outputs"])
        else:
            assert output == cell["outputs"]


def test_a_cell_gives_what_it_prints_and_the_value_of_its_last_line() -> None:
    cells = [{"cell_type": "code", "source": ["print('a')\n", "1 + 1"]}]
    printed, value = run_cells({"cells": cells})[0]
    assert (printed["text"], value["data"]) == (["a\n"], {"text/plain": ["2"]})
