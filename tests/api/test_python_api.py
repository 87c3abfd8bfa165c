"""The Python interface: public names, the commands as functions, stores and metrics."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import epalm
from epalm.errors import DataError, UnknownKeyError, UsageError
from epalm.metrics import plain_metrics
from tests.evaluate.helpers import BROKEN, COLORS, TinyRun, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return make_run(tmp_path_factory.mktemp("api"))


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, epalm; dir(epalm); epalm.__version__\n"
        "assert not {'torch', 'numpy', 'typer', 'zarr'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_is_there() -> None:
    assert dir(epalm) == sorted(epalm.__all__)
    assert all(getattr(epalm, name) for name in epalm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'answer'"):
        epalm.answer  # noqa: B018


def test_a_package_that_is_called_is_still_a_package() -> None:
    import epalm.train.trainer

    assert callable(epalm.train)
    assert epalm.train.trainer.fit


def test_a_store_is_a_mapping_from_keys_to_features(run: TinyRun) -> None:
    store = epalm.open_store(run.store)
    assert list(store) == list(store.keys) == list(COLORS)
    assert len(store) == 4
    assert "a.png" in store
    assert "z.png" not in store
    assert store["a.png"].shape == (2, 8)
    both = store[["b.png", "a.png"]]
    np.testing.assert_array_equal(both[1], store["a.png"])
    assert store.failed.keys() == {BROKEN}
    tensor = store.to_torch(["b.png", "a.png"])
    assert torch.equal(tensor, torch.from_numpy(both))
    assert store.to_torch("a.png").shape == (2, 8)
    with pytest.raises(UnknownKeyError, match=r"z\.png"):
        store["z.png"]
    with pytest.raises(UnknownKeyError, match="found the key 0, expected the text of a key"):
        store[[0]]  # type: ignore[list-item]


def test_evaluate_takes_the_options_of_the_command(run: TinyRun) -> None:
    evaluation = epalm.evaluate(run.folder, "val", beams=2, quiet=True)
    assert evaluation.settings["decoding"].startswith("2 beams")
    assert (run.folder / "eval" / "val-beams2" / "scores.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 2}, r"epalm.evaluate\(\) has no argument 'beam': did you mean beams"),
        ({"beams": 0}, "beams=0: 0 is not in the range x>=1"),
        ({"reader": "tape"}, "reader='tape': 'tape' is not one of"),
        ({"limit": "many"}, "limit='many': 'many' is not a valid"),
    ],
)
def test_a_value_that_the_command_line_refuses_is_refused(
    run: TinyRun, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        epalm.evaluate(run.folder, "val", **options)


def test_train_takes_changes_of_the_recipe_as_a_mapping(run: TinyRun, tmp_path: Path) -> None:
    from epalm.errors import RecipeError

    with pytest.raises(RecipeError, match="'lrr', did you mean 'lr'"):
        epalm.train(run.store, recipe="small", set={"lrr": 1e-3}, out=tmp_path, data_root=run.data)


def test_metrics_take_plain_texts() -> None:
    assert doctest.testmod(plain_metrics).failed == 0
    assert epalm.metrics.exact_match(["lamp", "cup"], [["lamp"], ["mug"]]) == 0.5
    four = [["two", "two", "two", "2"]]
    assert epalm.metrics.vqa_accuracy(["2"], four) == 1.0
    with pytest.raises(DataError, match="found a text in place of a list"):
        epalm.metrics.cider(["a dog"], ["a dog"])
    with pytest.raises(DataError, match="found 1 predictions and 2 lists"):
        epalm.metrics.cider(["a dog"], [["a dog"], ["a cat"]])


def test_extract_takes_files_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(name)
    Path("broken.png").write_bytes(b"nothing")
    given = {"out": "own.zarr", "quiet": True, "workers": 0, "device": "cpu"}
    encoder = "epalm.demo.encoder:micro_vit"
    store = epalm.extract(encoder, samples=[*names[:2], "broken.png"], **given)
    assert list(store) == [*names[:2], "broken.png"]
    assert store["a.png"].shape == (6, 96)
    assert store.failed.keys() == {"broken.png"}
    grown = epalm.extract(encoder, samples=[*names[:2], "broken.png", "c.png"], **given)
    assert len(grown) == 4
    np.testing.assert_array_equal(grown["a.png"], store["a.png"])
    named = epalm.extract(encoder, samples={"first": "a.png"}, **(given | {"out": "named.h5"}))
    np.testing.assert_allclose(named["first"], store["a.png"], rtol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a dataset or samples"),
        ({"samples": []}, "samples is empty"),
        ({"samples": "a.png"}, "is one path, expected a list"),
        ({"samples": [__file__, __file__]}, "twice, expected each once"),
        ({"samples": [__file__], "modality": "smell"}, "'smell' is not one of image, video, audio"),
        ({"samples": [__file__], "tokens": "no"}, "--tokens 'no'"),
        ({"samples": [__file__], "engine_workers": 2}, "--engine-workers is an option of --engine"),
    ],
)
def test_wrong_samples_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        epalm.extract("vit-b16", **arguments)
