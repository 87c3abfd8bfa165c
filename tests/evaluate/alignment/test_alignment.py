"""`epalm-eval alignment`: ranks, refusals, and a plain computation with stock transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.errors import UnknownKeyError, UsageError
from epalm.evaluate.alignment.measure import draw
from epalm.evaluate.cli import app
from epalm.tasks.types import Example
from tests.fakes import save_language_model

WORDS = ("a", "red", "blue", "cup", "lamp", "desk", "on", "the", "two", "old", "and", "small")
COUNT, BROKEN = 40, "7.png"


def write_data(root: Path) -> dict[str, list[str]]:
    """A manifest of captions of different lengths, two for each image."""
    random = np.random.default_rng(0)
    captions = {
        f"{number}.png": [" ".join(random.choice(WORDS, 3 + number % 5)) for _ in range(2)]
        for number in range(COUNT)
    }
    folder = root / "data"
    folder.mkdir()
    lines = [
        {"id": f"c{place}", "media": key, "answers": texts}
        for place, (key, texts) in enumerate(captions.items())
    ]
    for split in ("train", "val"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return captions


def write_store(
    root: Path,
    name: str,
    values: np.ndarray,
    *,
    layers: tuple[int, ...],
    positions: int = 1,
    tokens: str = "cls",
) -> str:
    spec = StoreSpec(
        dataset="data",
        encoder=name,
        fingerprint={"token": tokens},
        layers=layers,
        width=values.shape[-1],
        count=COUNT,
        positions=positions,
        tasks=("manifest",),
        data_root=str(root / "data"),
        dtype="float32",
    )
    sink = create_store(root / f"{name}.zarr", spec, [f"{number}.png" for number in range(COUNT)])
    sink.write_shard(0, values, {BROKEN: "cannot be decoded"})
    sink.finish()
    return str(root / f"{name}.zarr")


def plain_states(lm: Path, texts: list[str]) -> np.ndarray:
    """(layers + 1, N, H): stock transformers, one text at a time, without the first token."""
    model = AutoModelForCausalLM.from_pretrained(lm)
    tokenizer = AutoTokenizer.from_pretrained(lm)
    means = []
    for text in texts:
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        means.append([layer[0, 1:].mean(0).numpy() for layer in output.hidden_states])
    return np.stack(means, axis=1)


def plain_overlap(first: np.ndarray, second: np.ndarray, count: int) -> float:
    def sets(values: np.ndarray) -> list[set[int]]:
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        return [set(row[-count:]) for row in cosines.argsort(axis=1).tolist()]

    pairs = zip(sets(first), sets(second), strict=True)
    return float(np.mean([len(a & b) / count for a, b in pairs]))


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["alignment", *arguments, "--quiet", "--device", "cpu"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    return save_language_model(tmp_path / "lm", WORDS)


def test_the_matrix_equals_a_plain_computation_and_layers_are_ranked(
    tmp_path: Path, lm: Path
) -> None:
    captions = write_data(tmp_path)
    texts = plain_states(lm, [texts[0] for texts in captions.values()])
    random = np.random.default_rng(1)
    noise = random.normal(size=(COUNT, 16))
    aligned = texts[2] + 0.3 * texts[2].std() * random.normal(size=texts[2].shape)
    two = np.stack([noise, aligned], axis=1)[:, None].astype(np.float32)
    grid = np.stack([aligned, noise, noise[::-1]], axis=1)[:, None].astype(np.float32)
    stores = [
        write_store(tmp_path, "two", two, layers=(3, 5)),
        write_store(tmp_path, "grid", grid, layers=(9,), positions=3, tokens="all"),
    ]
    options = ["--lm", str(lm), "--neighbors", "4", "--batch-size", "7"]
    printed = json.loads(invoke(*stores, *options, "--json"))
    assert printed["samples"] == COUNT - 1
    assert printed["chance"] == pytest.approx(4 / 38)
    kept = [number for number in range(COUNT) if f"{number}.png" != BROKEN]
    sources = {
        ("two", 3, "cls"): noise,
        ("two", 5, "cls"): aligned,
        ("grid", 9, "cls"): aligned,
        ("grid", 9, "mean of all"): grid[:, 0].mean(axis=1),
    }
    assert len(printed["layers"]) == len(sources)
    for layer in printed["layers"]:
        values = sources[layer["encoder"], layer["block"], layer["token"]][kept]
        expected = [plain_overlap(values, states[kept], 4) for states in texts]
        assert layer["by_lm_layer"] == pytest.approx(expected)
        assert layer["overlap"] == max(layer["by_lm_layer"])
        assert layer["by_lm_layer"][layer["best_lm_layer"]] == layer["overlap"]
        assert layer["low"] <= layer["overlap"] <= layer["high"]
    check_ranking(printed["layers"])
    assert f"{printed['layers'][0]['overlap']:.4f}" in invoke(*stores, *options)
    again = json.loads(invoke(*stores, *options, "--json", "--batch-size", "40"))
    assert again["layers"] == printed["layers"]


def check_ranking(layers: list[dict[str, Any]]) -> None:
    """Layers that follow the texts come first, and noise last."""
    scores = [layer["overlap"] for layer in layers]
    assert scores == sorted(scores, reverse=True)
    first, *_, last = layers
    assert (first["token"], first["best_lm_layer"]) == ("cls", 2)
    assert first["block"] in (5, 9)
    assert (last["encoder"], last["block"]) in (("two", 3), ("grid", 9))
    assert first["low"] > last["high"]


def test_too_few_samples_and_stores_over_other_samples_are_refused(
    tmp_path: Path, lm: Path
) -> None:
    write_data(tmp_path)
    values = np.random.default_rng(0).normal(size=(COUNT, 1, 1, 4)).astype(np.float32)
    store = write_store(tmp_path, "one", values, layers=(0,))
    with pytest.raises(UsageError, match=r"5 samples .* 10 neighbors of each need at least 12"):
        invoke(store, "--lm", str(lm), "--samples", "5")
    spec = StoreSpec("data", "other", {}, (0,), 4, 2)
    sink = create_store(tmp_path / "other.zarr", spec, ["x.png", "y.png"])
    sink.write_shard(0, values[:2], {})
    sink.finish()
    with pytest.raises(UnknownKeyError, match=r"other\.zarr"):
        invoke(store, str(tmp_path / "other.zarr"), "--lm", str(lm))


def test_samples_are_drawn_by_seed() -> None:
    examples = [Example(str(number), str(number), "", ("a",), ("a",)) for number in range(50)]
    drawn = [draw(examples, 10, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({one.key for one in drawn[0]}) == 10
