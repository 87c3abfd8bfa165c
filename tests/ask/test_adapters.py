"""Several runs over one loaded language model: each answers as it does when it is loaded alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import epalm
from epalm.ask.run_model import Model, load
from epalm.errors import UsageError
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.epalm import trainable_parameters
from tests.ask.small_runs import SmallRun, small_run

VARIANTS = ("ada", "late-ada", "late", "lin")
"""Adapters in all layers, in the upper ones, layers that take more arguments, and none of these."""


@pytest.fixture(scope="module")
def runs(image_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs of several variants on the features of the small run."""
    out = tmp_path_factory.mktemp("runs")
    record = json.loads((image_run.run / "run.json").read_text())
    base = {"recipe": str(image_run.run / "recipe.toml"), "quiet": True, "device": "cpu"}
    found = {"full": image_run.run}
    for variant in VARIANTS:
        found[variant] = epalm.train(
            image_run.folder.store,
            variant=variant,
            set={"epochs": 1, "inject": "1:3", "lr": 0.05},
            out=out,
            name=variant,
            task=record["task"],
            **base,
        )
    return found


def answers(model: Model, run: SmallRun) -> tuple[list[str], list[float]]:
    files: list[Any] = [run.file(one) for one in run.predictions]
    found = model.answer(files, [one["prompt"] for one in run.predictions])
    return [str(one) for one in found], [one.log_probability for one in found]


def test_every_adapter_answers_as_the_run_loaded_alone_in_any_order(
    image_run: SmallRun, runs: dict[str, Path]
) -> None:
    alone = {name: answers(load(folder), image_run) for name, folder in runs.items()}
    assert len({texts for texts, _ in ((tuple(t), p) for t, p in alone.values())}) > 1
    model = load(runs["full"])
    names = [model.load_adapter(runs[name], name) for name in VARIANTS]
    assert model.adapter_names == [model.active_adapter, *names]
    for name in ("ada", "lin", "late-ada", "late", "ada"):
        model.set_adapter(name)
        assert model.record.model.variant == name
        texts, probabilities = answers(model, image_run)
        assert texts == alone[name][0]
        assert probabilities == pytest.approx(alone[name][1], abs=1e-5)


def test_further_adapters_leave_the_language_model_in_bf16(
    image_run: SmallRun, tmp_path: Path
) -> None:
    record = json.loads((image_run.run / "run.json").read_text())
    folders = [
        epalm.train(
            image_run.folder.store,
            recipe=str(image_run.run / "recipe.toml"),
            variant=variant,
            set={"epochs": 1, "inject": "1:3", "lr": 0.05},
            precision="bf16",
            out=tmp_path,
            name=variant,
            task=record["task"],
            quiet=True,
            device="cpu",
        )
        for variant in ("full", "ada")
    ]
    alone = [answers(load(folder), image_run) for folder in folders]
    model = load(folders[0])
    model.load_adapter(folders[1], "second")
    model.load_adapter(folders[0], "again")
    model.merge_adapters(["full", "again"], "mean")
    model.adapters = model.adapters.moved(load_run(folders[0]))
    for name, expected in {"full": alone[0], "second": alone[1], "mean": alone[0]}.items():
        model.set_adapter(name)
        assert model.loaded.model.language_model.dtype == torch.bfloat16
        assert answers(model, image_run) == expected


def test_further_adapters_share_the_weights_of_the_language_model(runs: dict[str, Path]) -> None:
    model = load(runs["full"])
    first = model.loaded.model.language_model
    model.load_adapter(runs["late-ada"], "second")
    model.set_adapter("second")
    assert model.loaded.model.language_model is first


def test_a_mean_has_the_mean_of_each_tensor(runs: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(runs["ada"], tmp_path / "other")
    loaded = load_run(other)
    with torch.no_grad():
        for _, weight in trainable_parameters(loaded.model):
            weight.add_(1.0)
    model = load(runs["ada"])
    model.adapters._runs["other"] = replace(loaded)  # as another seed would have trained it
    model.adapters._folders["other"] = other
    model.merge_adapters(["ada", "other"], "mean", weights=[3, 1])
    own = dict(trainable_parameters(model.loaded.model))
    model.set_adapter("mean")
    for name, weight in trainable_parameters(model.loaded.model):
        torch.testing.assert_close(weight, own[name] + 0.25)


def test_a_saved_adapter_answers_the_same(
    image_run: SmallRun, runs: dict[str, Path], tmp_path: Path
) -> None:
    model = load(runs["full"])
    model.load_adapter(runs["ada"], "ada")
    model.set_adapter("ada")
    model.save_pretrained(tmp_path / "saved")
    again = Model.from_pretrained(tmp_path / "saved").eval().to("cpu")
    assert again.record.model.variant == "ada"
    assert answers(again, image_run) == answers(model, image_run)
    assert (tmp_path / "saved" / "recipe.toml").is_file()
    with pytest.raises(UsageError, match="is not empty"):
        model.save_pretrained(tmp_path / "saved")


def test_a_moved_set_keeps_its_runs_and_the_active_one(
    image_run: SmallRun, runs: dict[str, Path]
) -> None:
    model = load(runs["full"])
    model.load_adapter(runs["late-ada"], "second")
    model.load_adapter(runs["ada"], "third")
    model.set_adapter("second")
    expected = answers(model, image_run)
    model.adapters = model.adapters.moved(load_run(runs["full"]))
    assert model.adapter_names[1:] == ["second", "third"]
    assert model.active_adapter == "second"
    assert answers(model, image_run) == expected


def test_runs_that_cannot_share_and_wrong_names_are_refused(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    model = load(runs["full"])
    with pytest.raises(UsageError, match=r"there is no run 'vqa' here"):
        model.set_adapter("vqa")
    with pytest.raises(UsageError, match="here already: give another name"):
        model.load_adapter(runs["full"])
    with pytest.raises(UsageError, match=r"'\.\./\.\./x' cannot be a run's name"):
        model.load_adapter(runs["ada"], "../../x")
    with pytest.raises(UsageError, match=r"'a\\nb' cannot be a run's name"):
        model.merge_adapters(["full", "full"], "a\nb")
    assert model.adapter_names == ["full"]
    with pytest.raises(UsageError, match="is active: activate another run first"):
        model.delete_adapter(model.active_adapter)
    sound = small_run("audio").run
    with pytest.raises(UsageError, match="was trained on other features"):
        model.load_adapter(sound, "sound")
    foreign = shutil.copytree(runs["ada"], tmp_path / "foreign")
    record = json.loads((foreign / "run.json").read_text())
    (foreign / "run.json").write_text(json.dumps(record | {"lm_digest": "00000000"}))
    with pytest.raises(UsageError, match=r"cannot share the language model.*weights 00000000"):
        model.load_adapter(foreign, "foreign")
    model.load_adapter(runs["ada"], "ada")
    with pytest.raises(UsageError, match="their models have other settings"):
        model.merge_adapters([model.active_adapter, "ada"], "mean")
    with pytest.raises(UsageError, match="expected at least two runs"):
        model.merge_adapters(["ada"], "mean")
    model.delete_adapter("ada")
    assert len(model.adapter_names) == 1
