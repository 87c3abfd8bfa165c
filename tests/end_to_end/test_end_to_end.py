"""Extract, train, evaluate: the three commands on real files, with tiny models."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import typer
import zarr
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from epalm.evaluate.cli import app as evaluate_app
from epalm.extract.cli import app as extract_app
from epalm.train.cli import app as train_app
from tests.fakes import save_language_model

COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
PHOTOS = {"train": 24, "val": 9}


def call(app: typer.Typer, *arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Photos of one color each, a manifest that asks for it twice, one broken photo."""
    folder = tmp_path / "colors"
    folder.mkdir()
    drawn = np.random.default_rng(0)
    for split, count in PHOTOS.items():
        lines = []
        for number in range(count):
            color, name = list(COLORS)[number % 3], f"{split}{number}.png"
            noise = drawn.integers(-30, 30, (40, 48, 3))
            pixels = np.clip(np.array(COLORS[color]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name)
            for copy, prompt in enumerate(("what color", "which color is it")):
                question = {"id": f"{split}{number}-{copy}", "media": name, "prompt": prompt}
                lines.append(json.dumps(question | {"answers": [color]}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    (folder / "val1.png").write_bytes(b"no picture")
    return folder


def test_the_road_from_photos_to_a_report(tmp_path: Path, data: Path) -> None:
    weights, store, runs = tmp_path / "vit.safetensors", tmp_path / "s.zarr", tmp_path / "runs"
    encoder = timm.create_model("test_vit", num_classes=0)
    save_file(encoder.state_dict(), weights)
    extraction = ("--encoder", "timm:test_vit", "--weights", weights, "--dataset", data)
    made = call(
        extract_app, *extraction, "--source-layers", "last-2", "--out", store, "--workers", 0
    )
    assert made.exit_code == 3
    cls = zarr.open_group(store, mode="r")["cls"]
    assert isinstance(cls, zarr.Array)
    assert cls.shape == (33, 1, 2, 64)
    lm = save_language_model(tmp_path / "lm", ["what", "which", "color", "is", "it", *COLORS])
    changes = ["inject=1:3", "epochs=20", "batch_size=8", "lr=0.03", "max_new_tokens=2"]
    changes += ["encoder=timm:test_vit", "preprocessing=native"]
    options = [item for change in changes for item in ("--set", change)]
    training = ("--features", store, "--recipe", "small", "--lm", lm, "--out", runs)
    call(train_app, *training, *options, "--device", "cpu")
    (folder,) = runs.iterdir()
    assert folder.name == "colors-manifest_timm-test_vit_lm_late-ada"
    evaluation = call(evaluate_app, "--split", "val", "--runs", runs, "--device", "cpu")
    assert evaluation.exit_code == 3
    results = folder / "eval" / "val"
    lines = (results / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 2 * (PHOTOS["val"] - 1)
    scores = json.loads((results / "scores.json").read_text())
    assert "exact_match" in json.dumps(scores)
    right = [json.loads(line)["prediction"] in json.loads(line)["references"] for line in lines]
    assert sum(right) / len(right) > 0.6
    assert "data:image" in (results / "report.html").read_text()
