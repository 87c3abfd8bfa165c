"""Stores, runs and checkpoints of an earlier version: they open, score the same, and resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer
import zarr
from typer.testing import CliRunner

from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.store import Store
from epalm.demo.stages import LANGUAGE_MODEL
from epalm.evaluate.cli import app as epalm_eval
from epalm.extract.cli import app as epalm_extract
from epalm.train.cli import app as epalm_train

FILES = Path(__file__).parent / "files"
STORES = ["store.zarr", "store.h5"]
DATA = ["--features", "store.zarr", "--data-root", "scenes"]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a copy of the old files whose paths exist."""
    folder = tmp_path / "old"
    shutil.copytree(FILES, folder)
    for file in (*folder.glob("runs/*/run.json"), *folder.glob("runs/*/recipe.toml")):
        text = file.read_text(encoding="utf-8")
        text = text.replace('"opt-micro"', json.dumps(str(LANGUAGE_MODEL.absolute())))
        file.write_text(text.replace('"old/', f'"{folder}/'), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def run(app: typer.Typer, *words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def training(name: str) -> list[str]:
    recipe = ["--recipe", "recipe.toml", "--lm", str(LANGUAGE_MODEL.absolute())]
    return [*DATA, *recipe, "--source-layers", "last-1", "--name", name, "--device", "cpu"]


def tree_bytes(store: Path) -> dict[Path, bytes]:
    """Every file of a store, in its folder or beside it."""
    files = [*store.parent.glob(f"{store.name}*"), *store.parent.glob(f"{store.name}*/**/*")]
    index = f"{store}.index"
    return {path: path.read_bytes() for path in files if path.is_file() and index not in str(path)}


def json_lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("store", STORES)
def test_every_shard_of_an_old_store_agrees_with_its_records(store: str) -> None:
    run(epalm_extract, "verify", store)


def test_the_old_stores_have_equal_features() -> None:
    array = zarr.open("store.zarr", mode="r")["cls"][:]
    with h5py.File("store.h5") as file:
        assert np.array_equal(array, file["cls"][:])
    assert array.shape == (20, 1, 6, 96)


@pytest.mark.parametrize("store", STORES)
def test_extraction_into_a_complete_old_store_finds_nothing_to_do(store: str) -> None:
    before = {path: path.read_bytes() for path in Path().glob("store.*/**/*") if path.is_file()}
    command = ["--encoder", "epalm.demo.encoder:micro_vit", "--dataset", "scenes", "--out", store]
    run(epalm_extract, *command, "--changed-media", "keep", "--workers", "0", "--device", "cpu")
    after = {path: path.read_bytes() for path in Path().glob("store.*/**/*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("store", STORES)
def test_an_old_store_gets_an_index_and_works_with_and_without_it(store: str) -> None:
    """From its own samples, in a copy, and in the first extraction of an indexed dataset."""
    before = tree_bytes(Path(store))
    assert not Path(f"{store}.index").exists()
    keys = list(Store.open(store).keys)
    run(epalm_extract, "plan", "--out", store, "--quiet")
    run(epalm_extract, "convert", store, "--out", f"copy-{store}", "--quiet")
    for index in map(SampleIndex.open, (f"{store}.index", f"copy-{store}.index")):
        assert index.keys(0, len(index)) == keys
        assert index.find(keys).tolist() == list(range(len(keys)))
        assert {place.name for _, place in index.items(0, len(index))} == set(keys)
    command = ["--encoder", "epalm.demo.encoder:micro_vit", "--dataset", "scenes", "--out", store]
    settings = ["--changed-media", "keep", "--workers", "0", "--device", "cpu", "--quiet"]
    shutil.rmtree(f"{store}.index")
    run(epalm_extract, *command, *settings, "--index", f"{store}.index")
    assert SampleIndex.open(f"{store}.index").labels["dataset"] == "scenes"
    run(epalm_extract, "verify", store, "--deep")
    assert tree_bytes(Path(store)) == before


def test_an_old_run_gives_the_same_answers_and_scores() -> None:
    folder = "runs/whole/eval/test"
    old_predictions = json_lines(f"{folder}/predictions.jsonl")
    old_scores = json.loads(Path(f"{folder}/scores.json").read_text(encoding="utf-8"))["scores"]
    shutil.rmtree(folder)
    run(epalm_eval, "--run", "runs/whole", "--split", "test", *DATA, "--device", "cpu")
    predictions = json_lines(f"{folder}/predictions.jsonl")
    texts = [[line["prediction"] for line in lines] for lines in (old_predictions, predictions)]
    assert texts[0] == texts[1]
    log_probabilities = [
        [line["log_probability"] for line in lines] for lines in (old_predictions, predictions)
    ]
    np.testing.assert_allclose(*log_probabilities, atol=1e-4)
    assert json.loads(Path(f"{folder}/scores.json").read_text(encoding="utf-8"))["scores"] == (
        old_scores
    )


def test_an_old_evaluation_is_reported() -> None:
    run(epalm_eval, "report", "runs/whole")
    assert list(Path("runs/whole/eval/test").glob("*.html"))


@pytest.mark.slow
def test_an_old_training_that_was_stopped_resumes_to_the_result_of_the_whole_one() -> None:
    run(epalm_train, *training("part"), "--quiet")
    old, resumed = (json_lines(f"runs/{name}/metrics.jsonl") for name in ("whole", "part"))
    losses = [
        {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}
        for lines in (old, resumed)
    ]
    assert losses[0].keys() == losses[1].keys()
    np.testing.assert_allclose(list(losses[0].values()), list(losses[1].values()), rtol=1e-3)
