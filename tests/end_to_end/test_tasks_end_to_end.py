"""Every task in its published files through the three commands, with tiny models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

from epalm.evaluate.cli import app as evaluate_app
from epalm.extract.cli import app as extract_app
from epalm.metrics.metric_registry import FINAL
from epalm.tasks.task_registry import load_media, load_task
from epalm.tasks.types import Modality
from epalm.train.cli import app as train_app
from tests.extract.encoders.tiny_encoders import make_tiny
from tests.extract.helpers import run_command
from tests.fakes import save_language_model
from tests.media.file_writers import av_files
from tests.tasks.dataset_layouts import LAYOUTS, DatasetLayout

WORDS = ["what", "is", "it", "where", "yes", "no", "net", "red", "a", "dog", "man", "the", "cup"]

TAUGHT_BY = {"vqa2 for submission": "vqa2", "nocaps-caption": "coco-caption"}
"""Layout without a training split -> the one that a run learns from before."""

FAULTS = [
    (name, fault)
    for fault in ("cut short", "missing", "without media")
    for name, layout in LAYOUTS.items()
    if layout.required or fault != "cut short"  # a table has no end that can be missed
]

SETTINGS = ("epochs=1", "batch_size=2", "lr=0.03", "inject=1:3", "max_new_tokens=2")


def call(app: typer.Typer, *arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def _photo(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def _clip(path: Path, number: int) -> None:
    av_files.write_media(path, frames=av_files.random_frames(10, seed=number))


def _recording(path: Path, number: int) -> None:
    soundfile.write(path, av_files.noise(1.3, channels=1, seed=number), 44_100)


DRAWERS: dict[Modality, tuple[str, Callable[[Path, int], None]]] = {
    "image": ("timm", _photo),
    "video": ("timesformer-b", _clip),
    "audio": ("ast", _recording),
}
"""Modality -> tiny encoder, and what writes a medium."""


def encoded(layout: DatasetLayout, root: Path, folder: Path) -> Path:
    """The published files with media in them, and a store of those."""
    layout.write(root)
    media = load_media(layout.dataset, root)
    case, draw = DRAWERS[media.items[0].modality]
    for number, item in enumerate(media.items):
        if item.part is not None:  # its tar file holds a photo already
            continue
        item.path.parent.mkdir(parents=True, exist_ok=True)
        draw(item.path, number)
    tiny = make_tiny(case, folder / "encoder")
    store = folder / f"{layout.dataset}.zarr"
    made = ("--encoder", tiny.name, "--weights", tiny.settings.weights, "--dataset", layout.dataset)
    call(extract_app, *made, "--data-root", root, "--out", store, "--workers", 0)
    return store


def taught(layout: DatasetLayout, store: Path, folder: Path) -> Path:
    """A run over the store."""
    lm = save_language_model(folder / "lm", WORDS)
    splits = ("--train-split", layout.train, "--val-split", layout.answered[0])
    named = ("--task", layout.task, "--recipe", "small", "--lm", lm, "--name", "run")
    changes = [item for setting in SETTINGS for item in ("--set", setting)]
    runs = folder / "runs"
    where = ("--features", store, "--out", runs, "--device", "cpu")
    call(train_app, *where, *named, *splits, *changes)
    return runs / "run"


def answers(
    layout: DatasetLayout, split: str, *, run: Path, store: Path, root: Path
) -> list[dict[str, object]]:
    """What the run says of a split, a line for each example."""
    where = ("--runs", run.parent, "--device", "cpu", "--task", layout.task)
    call(evaluate_app, *where, "--split", split, "--features", store, "--data-root", root)
    (file,) = run.glob(f"eval/*{split}/predictions.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_task_goes_from_its_published_files_to_answers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = LAYOUTS[name]
    if name != "coco-caption":  # once with SPICE, which takes half a minute
        monkeypatch.delitem(FINAL, "caption")
    teacher = LAYOUTS[TAUGHT_BY.get(name, name)]
    if "caption" in name and not shutil.which("java"):
        pytest.skip("caption scores need Java")
    root = tmp_path / "data"
    root.mkdir()
    first = encoded(teacher, root, tmp_path)
    run = taught(teacher, first, tmp_path)
    store = first if layout is teacher else encoded(layout, root, tmp_path)
    for split in (*layout.answered[:1], *layout.unanswered[:1]):
        examples = load_task(layout.task, root).examples(split, root)
        result = answers(layout, split, run=run, store=store, root=root)
        assert [line["id"] for line in result] == [example.question_id for example in examples]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_fault_in_published_files_ends_extraction_with_one_line(
    name: str,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    layout = LAYOUTS[name]
    if fault != "missing":
        layout.write(tmp_path)
    if fault == "without media":
        for folder in layout.media or ("cc3m",):
            shutil.rmtree(tmp_path / folder)
    if fault == "cut short":
        for file in tmp_path.glob("**/*.json"):
            file.write_bytes(file.read_bytes()[:-3])
    weights = tmp_path / "of_no_encoder.safetensors"
    save_file({"nothing": np.zeros(1, np.float32)}, weights)
    made = ("--encoder", "timm:test_vit", "--weights", weights, "--dataset", layout.dataset)
    ended = run_command(monkeypatch, capsys, *made, "--data-root", tmp_path, "--workers", 0)
    assert ended.code == 1
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path) in line
    assert str(weights) not in line  # nothing is loaded before the data are found in order
