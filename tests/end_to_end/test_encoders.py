"""Encoders without a class token through all commands: images, videos and audio."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
import zarr
from PIL import Image
from typer.testing import CliRunner

from epalm.cache.store import Store
from epalm.evaluate.cli import app as evaluate_app
from epalm.extract.cli import app as extract_app
from epalm.train.cli import app as train_app
from tests.extract.encoders.zoo.hf_models import HF
from tests.fakes import save_language_model

KINDS = ("low", "middle", "high")
"""What the samples show, in turns."""

COUNTS = {"train": 12, "val": 6}

CHANGES = (
    *("variant=full", "inject=1:3", "epochs=40", "batch_size=4", "lr=0.03", "max_new_tokens=2"),
    *("preprocessing=native", "qa_template={prompt} {answer}"),
)

IMAGES = {
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
"""preprocessor_config.json of images and frames."""


def _photo(path: Path, kind: int, random: np.random.Generator) -> None:
    """A picture in one of three colors."""
    Image.fromarray(_frame(kind, random)).save(path)


def _clip(path: Path, kind: int, random: np.random.Generator) -> None:
    """Eight frames in one of three colors."""
    first, *others = [Image.fromarray(_frame(kind, random)) for _ in range(8)]
    first.save(path, save_all=True, append_images=others, duration=100)


def _recording(path: Path, kind: int, random: np.random.Generator) -> None:
    """One second of a tone of 300, 1500 or 7500 Hz."""
    tone = np.sin(2 * np.pi * 300 * 5**kind * np.arange(48_000) / 48_000)
    soundfile.write(path, 0.5 * tone + random.normal(0, 0.01, 48_000), 48_000)


def _frame(kind: int, random: np.random.Generator) -> np.ndarray:
    pixels = random.integers(0, 60, (40, 48, 3))
    pixels[..., kind] += 180
    return pixels.astype(np.uint8)


@dataclass(frozen=True)
class Case:
    """A family of the zoo and what its store holds.

    Attributes:
        family: key of `HF`.
        extension: name suffix of its files.
        draw: writes a media file that shows a kind.
        tokens: value of --tokens; "" for the default.
        shape: (L x T, D) of a stored sample.
        norm: fingerprint's entry.
    """

    family: str
    extension: str
    draw: Callable[[Path, int, np.random.Generator], None]
    tokens: str
    shape: tuple[int, int]
    norm: str

    @property
    def policy(self) -> str:
        return self.tokens or "mean"


CASES = (
    Case("SigLIP", "png", _photo, "", (6, 32), "final"),
    Case("ConvNeXt", "png", _photo, "pool:2x2", (4, 32), "after pooling"),
    Case("VideoMAE", "gif", _clip, "", (6, 32), "none"),
    Case("CLAP", "wav", _recording, "", (3, 32), "final"),
)


def call(app: typer.Typer, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def write_data(folder: Path, case: Case) -> Path:
    """A manifest with the media files of each split."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        lines = []
        for number in range(count):
            name = f"{split}{number}.{case.extension}"
            case.draw(folder / name, number % 3, random)
            question = {"id": f"{split}{number}", "media": name, "prompt": "what is it"}
            lines.append(json.dumps(question | {"answers": [KINDS[number % 3]]}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def save_encoder(folder: Path, case: Case) -> Path:
    """The zoo's model with a preprocessor_config.json, which audio families save themselves."""
    HF[case.family].create(folder)
    if HF[case.family].media != "audio":
        (folder / "preprocessor_config.json").write_text(json.dumps(IMAGES))
    return folder


def train(store: Path, encoder: Path, folder: Path) -> Path:
    """A finished run over the store."""
    lm = save_language_model(folder / "lm", ["what", "is", "it", *KINDS])
    named = ("--recipe", "small", "--lm", lm, "--out", folder / "runs", "--name", "run")
    changes = [item for change in CHANGES for item in ("--set", change)]
    changes += ["--set", f"encoder=hf:{encoder}"]
    call(train_app, "--features", store, *named, *changes, "--device", "cpu")
    return folder / "runs" / "run"


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.family)
def test_an_encoder_without_a_class_token_goes_through_all_commands(
    case: Case, tmp_path: Path
) -> None:
    encoder, store = save_encoder(tmp_path / "encoder", case), tmp_path / "s.zarr"
    data = write_data(tmp_path / "data", case)
    chosen = ("--tokens", case.tokens) if case.tokens else ()
    where = ("--dataset", data, "--out", store, "--workers", 0, "--device", "cpu")
    said = call(extract_app, "--encoder", f"hf:{encoder}", *where, *chosen)
    spec = Store.open(store).spec
    assert (spec.tokens, spec.fingerprint["norm"]) == (case.policy, case.norm), said
    array = zarr.open_group(store, mode="r")["cls"]
    assert isinstance(array, zarr.Array)
    assert array.shape == (sum(COUNTS.values()), 1, *case.shape)
    run = train(store, encoder, tmp_path)
    assert losses(run)[-1] < losses(run)[0]
    call(evaluate_app, "--split", "val", "--run", run, "--device", "cpu")
    lines = (run / "eval" / "val" / "predictions.jsonl").read_text().splitlines()
    right = [json.loads(line)["prediction"] in json.loads(line)["references"] for line in lines]
    assert len(right) == COUNTS["val"]
    assert sum(right) >= 5
