"""The modules on the pages about own encoders, language models, tasks and metrics work."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import epalm
from epalm.demo.stages import LANGUAGE_MODEL
from epalm.plugins import TypedName
from epalm.tasks.task_registry import load_task
from tests.ask.small_runs import small_run
from tests.docs.running import run_bash, run_python

LINES = "media/train-00000.png\thow many stars are there?\t2\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for name in ("my_encoders", "my_tasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_the_encoder_of_the_page_stores_the_normalized_tokens_of_its_blocks(folder: Path) -> None:
    run_python("how_to/extend/add_an_encoder.md", folder, {})
    Image.new("RGB", (32, 32), (200, 10, 30)).save("red.png")
    store = epalm.extract(
        *("my_encoders:small_vit",),
        samples=["red.png"],
        source_layers="last-4",
        image_size=32,
        dtype="float32",
        preprocessing="native",
        out="own.zarr",
        quiet=True,
    )
    torch.manual_seed(0)
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 4}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **shape).eval()
    color = torch.tensor([200, 10, 30]) / 255
    mean, std = (torch.tensor(model.pretrained_cfg[key]) for key in ("mean", "std"))
    pixels = ((color - mean) / std).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    with torch.inference_mode():
        layers = model.forward_intermediates(
            pixels, norm=True, return_prefix_tokens=True, intermediates_only=True
        )
    expected = np.stack([prefix[0, 0].numpy() for _, prefix in layers])
    np.testing.assert_allclose(store["red.png"], expected, atol=1e-4)


def test_the_language_model_of_the_page_loads(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    run_python("how_to/extend/add_a_language_model.md", folder, names)
    assert capsys.readouterr().out.strip()
    assert (folder / "tiny-llama" / "config.json").is_file()


def test_the_task_and_the_metric_of_the_page_read_and_score(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python("how_to/extend/add_a_task_or_metric.md", folder, {})
    assert capsys.readouterr().out.strip() == "{'near': 1.0}"
    (folder / "val.tsv").write_text(LINES, encoding="utf-8")
    (example,) = load_task(TypedName("my_tasks:counting")).examples("val", folder)
    assert (example.prompt, example.answers) == ("how many stars are there?", ("2",))


@pytest.mark.slow
def test_the_commands_of_the_page_train_and_evaluate_the_task(folder: Path) -> None:
    run_python("how_to/extend/add_a_task_or_metric.md", folder, {})
    small = small_run("image").folder
    (folder / "cache").mkdir()
    (folder / "cache" / "scenes.zarr").symlink_to(small.store)
    (folder / "numbers").mkdir()
    for split in ("train", "val"):
        (folder / "numbers" / f"{split}.tsv").write_text(LINES, encoding="utf-8")
    lm = {"facebook/opt-125m": str(LANGUAGE_MODEL)}
    printed = run_bash("how_to/extend/add_a_task_or_metric.md", folder, **lm)
    assert "near" in printed
