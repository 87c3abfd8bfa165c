"""Training on several stores over the same samples."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import epalm
from epalm.cache.create_store import create_store
from epalm.cache.records.extraction_log import ExtractionLogEntry, log_extraction
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, UsageError
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.preparation.eval_preparation import prepare
from epalm.evaluate.report.resource_use import Cost, extraction_cost
from epalm.evaluate.run_evaluation import evaluate
from epalm.evaluate.scores.eval_results import read_evaluation
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train.cli import app
from tests.train.helpers import BROKEN, World, logged, make_world, train_command
from tests.train.sweep.helpers import member_folder, sweep, write_sweep


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, epochs=1)


def write_store(
    world: World,
    name: str,
    *,
    features: np.ndarray,
    keys: Sequence[str] | None = None,
    encoder: str = "other-vit",
) -> Path:
    """A store of features (N, L, D) for the world's samples, all of which could be encoded."""
    old = Store.open(world.store)
    names = list(keys or old.keys)
    spec = replace(
        old.spec,
        encoder=encoder,
        fingerprint={"preprocessing.name": "native", "weights": "1234"},
        layers=tuple(range(features.shape[1])),
        width=features.shape[2],
        count=len(names),
    )
    store = create_store(world.root / name, spec, names)
    errors = {BROKEN: "cannot be decoded"} if BROKEN in names else {}
    store.write_shard(0, features[:, None].astype(np.float32), errors)
    store.finish()
    return world.root / name


def drawn(world: World, layers: int, width: int) -> np.ndarray:
    count = Store.open(world.store).spec.count
    return np.random.default_rng(5).normal(size=(count, layers, width))


def run(world: World, *extra: str, variant: str = "full", inject: str = "0:3") -> Path:
    settings = ("--variant", variant, "--set", f"inject={inject}", "--source-layers", "all")
    words = train_command(world, *settings, *extra)
    result = CliRunner().invoke(app, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return world.root / "runs" / "run"


def losses(world: World, name: str) -> list[float]:
    return [line["loss"] for line in logged(world, "train", name)]


def also(store: Path) -> tuple[str, str]:
    return "--features", str(store)


@pytest.mark.parametrize("variant", ["full", "6-connectors"])
def test_two_stores_train_as_one_with_the_features_of_both(world: World, variant: str) -> None:
    own = Store.open(world.store).load_shard(0)[:, 0].astype(np.float32)
    own[np.isnan(own)] = 0
    more = drawn(world, 1, 8).astype(np.float16).astype(np.float32)
    both = write_store(world, "both.zarr", features=np.concatenate([own, more], axis=1))
    second = write_store(world, "second.zarr", features=more)
    run(replace(world, store=both), "--name", "one", variant=variant)
    run(world, *also(second), "--name", "two", variant=variant)
    assert losses(world, "one") == losses(world, "two")
    one, two = (
        load_file(world.root / "runs" / name / "adapter.safetensors") for name in ("one", "two")
    )
    for number in range(3):
        part, place = divmod(number, 2)
        for kind in ("weight", "bias"):
            trained = two[f"connectors.parts.{part}.maps.{place}.{kind}"]
            assert torch.equal(one[f"connectors.maps.{number}.{kind}"], trained)


def test_rows_are_joined_by_key_and_not_by_position(world: World) -> None:
    features, keys = drawn(world, 1, 12), list(Store.open(world.store).keys)
    same = write_store(world, "same.zarr", features=features)
    turned = write_store(world, "turned.zarr", features=features[::-1], keys=keys[::-1])
    run(world, *also(same), "--name", "same")
    run(world, *also(turned), "--name", "turned")
    run(world, *also(turned), "--name", "blind", "--blind")
    assert losses(world, "same") == losses(world, "turned") != losses(world, "blind")


@pytest.mark.parametrize("reader", ["pread", "stream"])
def test_readers_on_the_disk_serve_the_same_rows(world: World, reader: str) -> None:
    second = write_store(world, "second.zarr", features=drawn(world, 1, 12))
    run(world, *also(second), "--name", "first", "--reader", reader)
    run(world, *also(second), "--name", "again", "--reader", reader)
    assert losses(world, "first") == losses(world, "again")
    if reader == "pread":
        run(world, *also(second), "--name", "ram", "--reader", "ram")
        assert losses(world, "first") == losses(world, "ram")


def test_different_samples_are_refused_or_reduced_to_the_common_ones(world: World) -> None:
    features, keys = drawn(world, 1, 12)[:-4], list(Store.open(world.store).keys)[4:]
    second = write_store(world, "second.zarr", features=features, keys=keys)
    with pytest.raises(CacheMismatchError, match=r"has 4 .*'0\.png', '1\.png'.*--common.* 48 sam"):
        run(world, *also(second))
    run(world, *also(second), "--common")
    assert losses(world, "run")


def test_stores_without_a_common_sample_are_refused(world: World) -> None:
    keys = [f"other{number}.png" for number in range(52)]
    second = write_store(world, "second.zarr", features=drawn(world, 1, 12), keys=keys)
    with pytest.raises(CacheMismatchError, match="no sample in common"):
        run(world, *also(second), "--common")


def test_common_samples_without_any_of_a_split_are_refused(world: World) -> None:
    features, keys = drawn(world, 1, 12)[:40], list(Store.open(world.store).keys)[:40]
    second = write_store(world, "second.zarr", features=features, keys=keys)
    with pytest.raises(CacheMismatchError, match=r"val: no sample of its \d+ examples is in all"):
        run(world, *also(second), "--common")


def test_the_cost_of_extraction_is_that_of_all_stores(tmp_path: Path) -> None:
    first, second = (str(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    log_extraction(first, ExtractionLogEntry(50, 3.0, 700, "cpu"))
    assert extraction_cost([first, second]) is None
    log_extraction(second, ExtractionLogEntry(50, 4.5, 600, "cuda", 80))
    assert extraction_cost([first, second]) == Cost(7.5, 700, "cpu, cuda", 80, "100 samples")


def test_a_run_records_every_store_and_refuses_to_resume_on_others(world: World) -> None:
    second = write_store(world, "second.zarr", features=drawn(world, 1, 12))
    other = write_store(world, "other.zarr", features=drawn(world, 1, 12), encoder="third-vit")
    folder = run(world, *also(second))
    record = RunRecord.load(folder)
    assert record.joined == (str(second),)
    assert record.store["encoder"] == "tiny-vit + other-vit"
    assert record.store["fingerprint.joined.2.weights"] == "1234"
    written = json.loads((folder / "run.json").read_text())
    assert written["joined"] == ["../../second.zarr"]
    run(world, *also(second))
    for stores in ((), also(other)):
        with pytest.raises(CacheMismatchError, match=r"joined\.2\.encoder is .*in training other"):
            run(world, *stores)
    loaded = load_run(folder)
    assert loaded.model.plan.feature_count == 3


def test_a_resumed_run_on_two_stores_has_the_same_losses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = write_store(world, "second.zarr", features=drawn(world, 1, 12))
    run(world, *also(second), "--name", "whole", "--set", "epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr("epalm.train.trainer.validate_epoch", _interrupt)
        with pytest.raises(InterruptedError):
            run(world, *also(second), "--set", "epochs=2")
    run(world, *also(second), "--set", "epochs=2")
    assert losses(world, "whole") == losses(world, "run")


def _interrupt(training: object, epoch: int) -> None:
    raise InterruptedError


def test_one_store_twice_and_common_with_one_store_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match="twice: name each store once"):
        run(world, *also(Path(world.store)))
    with pytest.raises(UsageError, match="--common joins several stores"):
        run(world, "--common")


def test_the_memory_of_a_run_on_two_stores_is_estimated(world: World) -> None:
    second = write_store(world, "second.zarr", features=drawn(world, 1, 12))
    words = train_command(world, *also(second), "--set", "inject=0:3", "--dry-run", "--json")
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    alone = CliRunner().invoke(
        app, train_command(world, "--set", "inject=0:3", "--dry-run", "--json")
    )
    label = "stored features"
    count = 52 * (2 * 8 + 12) * 2
    assert json.loads(result.stdout)["bytes"][label] == count
    assert json.loads(alone.stdout)["bytes"][label] == 52 * 2 * 8 * 2


def test_a_sweep_compares_one_store_with_two_joined_ones(world: World) -> None:
    write_store(world, "second.zarr", features=drawn(world, 1, 12))
    stores = '["./store.zarr", ["./store.zarr", "./second.zarr"]]'
    file = write_sweep(world, f"[grid]\nfeatures = {stores}\n")
    assert sweep(file) == 0
    alone, joined = (
        RunRecord.load(member_folder(file, name))
        for name in ("features-store", "features-store+second")
    )
    assert alone.joined == ()
    assert joined.joined == (str(world.root / "second.zarr"),)


def test_a_run_on_two_stores_is_evaluated_on_two_stores_of_the_same_settings(
    world: World,
) -> None:
    second = write_store(world, "second.zarr", features=drawn(world, 1, 12))
    other = write_store(world, "other.zarr", features=drawn(world, 1, 12), encoder="third-vit")
    folder = run(world, *also(second))
    first = str(world.store)
    own = EvalOptions(run=str(folder), split="val", quiet=True, device="cpu")
    evaluation = evaluate(own).evaluation
    named = evaluate(replace(own, features=[first, str(second)])).evaluation
    answers = [prediction.prediction for prediction in evaluation.predictions]
    assert len(answers) == 12
    assert answers == [prediction.prediction for prediction in named.predictions]
    assert evaluation.joined == (str(second),)
    assert read_evaluation(folder / "eval" / "val").joined == (str(second),)
    assert evaluation.settings["encoder"] == "tiny-vit + other-vit, frozen"
    with pytest.raises(UsageError, match=r"2 stores \(tiny-vit \+ other-vit\), found 1: give"):
        prepare(replace(own, features=[first]))
    for stores in ([str(second), first], [first, str(other)]):
        with pytest.raises(CacheMismatchError, match=r"joined\.2\.encoder is"):
            prepare(replace(own, features=stores))


def test_a_run_on_two_stores_refuses_new_files(world: World) -> None:
    second = write_store(world, "second.zarr", features=drawn(world, 1, 12))
    with pytest.raises(UsageError, match=r"several encoders \(tiny-vit \+ other-vit\)"):
        epalm.load(run(world, *also(second)))


def test_common_samples_are_evaluated_alone(world: World) -> None:
    features, keys = drawn(world, 1, 12)[:-4], list(Store.open(world.store).keys)[:-4]
    second = write_store(world, "second.zarr", features=features, keys=keys)
    folder = run(world, *also(second), "--common")
    own = EvalOptions(run=str(folder), split="val", quiet=True, device="cpu")
    with pytest.raises(CacheMismatchError, match="--common"):
        prepare(own)
    assert len(prepare(replace(own, common=True)).examples) == 8
