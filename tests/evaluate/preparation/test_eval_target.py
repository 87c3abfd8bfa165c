"""Evaluation of a run on another task and other samples than it was trained on."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.errors import CacheMismatchError, MalformedFileError, UsageError
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.preparation.eval_target import (
    check_run_store,
    evaluation_label,
    evaluation_task,
    find_media,
    training_split,
    transfer_labels,
)
from epalm.evaluate.run_evaluation import evaluate
from epalm.model.checkpoints.run_record import RunRecord
from epalm.tasks.task_registry import load_task
from tests.evaluate.helpers import TinyRun, evaluation, make_run, store_spec

CLIPS = ("b.gif", "a.gif")

VIDEO_FIELDS = {"media": "video", "frames": "8", "frame_choice": "middle", "decode": "upright"}


def clip_spec(**changes: str) -> StoreSpec:
    spec = store_spec()
    fingerprint = spec.fingerprint | VIDEO_FIELDS | changes
    tasks = ("msvd-qa",)
    return replace(spec, dataset="msvd", fingerprint=fingerprint, count=len(CLIPS), tasks=tasks)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def msvd(tmp_path: Path) -> Path:
    """Path of a store of two video clips with a question about each."""
    (tmp_path / "annotation").mkdir()
    (tmp_path / "videos" / "all").mkdir(parents=True)
    for name in CLIPS:
        Image.new("RGB", (32, 24), "red").save(tmp_path / "videos" / "all" / name)
    questions = [
        {"video": name, "question": "what is on", "question_id": row, "label": {"lamp": 1.0}}
        for row, name in enumerate(CLIPS)
    ]
    (tmp_path / "annotation" / "msvd_vqa_test.json").write_text(json.dumps(questions))
    spec = replace(clip_spec(), data_root=str(tmp_path))
    sink = create_store(tmp_path / "msvd.zarr", spec, list(CLIPS))
    sink.write_shard(0, np.ones(sink.spec.shape, np.float16), {})
    sink.finish()
    return tmp_path / "msvd.zarr"


def test_a_run_trained_on_images_answers_questions_about_videos(tiny: TinyRun, msvd: Path) -> None:
    options = EvalOptions(
        run=str(tiny.folder), split="test", task="msvd-qa", features=[str(msvd)], quiet=True
    )
    finished = evaluate(options)
    assert finished.folder == tiny.folder / "eval" / "msvd-qa-test"
    result = finished.evaluation
    assert (result.task, result.headline) == ("msvd-qa", "accuracy")
    assert [record.key for record in result.predictions] == list(CLIPS)
    assert all(record.prediction for record in result.predictions)
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/gif') == len(CLIPS)
    assert "<h1>tiny evaluated on msvd-qa, test</h1>" in page
    assert "<li>trained on <b>data</b></li>" in page
    assert "<li>evaluated on <b>msvd-qa</b></li>" in page
    assert result.settings["trained on"] == f"data, task manifest, features {tiny.store.name}"
    assert result.settings["evaluated on"] == f"msvd, task msvd-qa, features {msvd.name}"


def test_transfer_is_labeled_by_task_or_else_by_data_set(tiny: TinyRun) -> None:
    record, own = RunRecord.load(tiny.folder), evaluation()
    clips = replace(own, fingerprint=clip_spec().comparable())
    assert transfer_labels(record, own) is None
    assert transfer_labels(record, clips) == ("data", "msvd")
    assert transfer_labels(record, replace(clips, task="msvd-qa")) == ("data", "msvd-qa")


def test_stores_of_one_manifest_have_folders_of_their_own(tiny: TinyRun, tmp_path: Path) -> None:
    other = make_run(tmp_path)
    folders = []
    for name in ("data_tinyvit.zarr", "cut.zarr", "short.zarr"):
        shutil.copytree(other.store, tmp_path / name)
        options = EvalOptions(
            run=str(tiny.folder), split="val", task="manifest", features=[str(tmp_path / name)]
        )
        folders.append(evaluate(replace(options, data_root=other.data, limit=1, quiet=True)).folder)
    names = [folder.name for folder in folders]
    assert names == ["data-val-first1", "data-cut-val-first1", "data-short-val-first1"]


def test_the_ranked_answers_are_those_of_the_runs_training_split(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path)
    lines = [
        {"id": str(row), "media": "a.png", "prompt": "what is on", "answers": [answer]}
        for row, answer in enumerate(("cup", "red", "cup"))
    ]
    (run.data / "extra.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = run.folder / "recipe.toml"
    recipe.write_text('train_split = "extra"\ntrain_examples = 1\n')
    options = EvalOptions(run=str(run.folder), split="val", limit=2, quiet=True, answers="top-9")
    result = evaluate(options).evaluation
    assert {record.prediction for record in result.predictions} <= {"cup", "red"}
    words = "the most probable of the 2 most frequent answers of manifest extra"
    assert result.settings["decoding"] == words
    record, task = RunRecord.load(run.folder), load_task("manifest", run.data)
    assert training_split(run.folder, record, load_task("vqa2", run.data)) == "karpathy_train"
    recipe.write_text('train_split = ""\n')
    assert training_split(run.folder, record, task) == "train"
    recipe.write_text("= =")
    with pytest.raises(MalformedFileError, match=r"recipe\.toml is not a recipe"):
        training_split(run.folder, record, task)


def test_another_store_of_the_same_name_overwrites_nothing(tiny: TinyRun, msvd: Path) -> None:
    options = EvalOptions(
        run=str(tiny.folder),
        split="test",
        task="msvd-qa",
        features=[str(msvd)],
        limit=1,
        quiet=True,
    )
    folder = evaluate(options).folder
    moved = shutil.copytree(msvd, msvd.parent / "moved" / "msvd.zarr")
    assert evaluate(replace(options, features=[str(moved)])).folder == folder
    sink = create_store(
        msvd.parent / "sparse" / "msvd.zarr",
        replace(clip_spec(frames="4"), data_root=str(msvd.parent)),
        list(CLIPS),
    )
    sink.write_shard(0, np.ones(sink.spec.shape, np.float16), {})
    sink.finish()
    before = (folder / "scores.json").read_bytes()
    with pytest.raises(UsageError, match=r"msvd-qa-test-first1 has .* another store, .*moved"):
        evaluate(replace(options, features=[str(msvd.parent / "sparse" / "msvd.zarr")]))
    assert (folder / "scores.json").read_bytes() == before


def test_the_runs_own_features_keep_the_splits_name_at_any_location(tiny: TinyRun) -> None:
    record, task = RunRecord.load(tiny.folder), load_task("manifest", tiny.data)
    assert evaluation_label("", task, record, store_spec(), record.features) == ""
    assert evaluation_label("", task, record, store_spec(), "https://host/copy.zarr/") == ""
    assert evaluation_label("", task, record, clip_spec(), "cache/msvd_8.zarr") == "msvd_8"


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ("cache/coco-test2015_tinyvit.zarr", ""),
        ("s3://bucket/coco-test2015.zarr", ""),
        ("cache/half.zarr", "half"),
    ],
)
def test_a_folder_has_the_same_name_whether_the_runs_own_task_is_given_or_not(
    tiny: TinyRun, features: str, name: str
) -> None:
    record = RunRecord.load(tiny.folder)
    record = replace(record, task="vqa2", store=record.store | {"dataset": "coco"})
    images, task = replace(store_spec(), dataset="coco-test2015"), load_task("vqa2", tiny.data)
    for option in ("", "vqa2"):
        assert evaluation_label(option, task, record, images, features) == name
    assert (
        evaluation_label("okvqa", load_task("okvqa"), record, images, "cache/half.zarr")
        == "okvqa-half"
    )
    sparse = replace(clip_spec(), dataset="coco")
    assert (
        evaluation_label("vqa2", task, record, sparse, "cache/coco_tinyvit.zarr") == "coco_tinyvit"
    )


@pytest.mark.parametrize(("tasks", "hint"), [(("manifest",), True), (("msvd-qa",), False)])
def test_the_error_about_an_unknown_task_names_that_of_manifests(
    tiny: TinyRun, *, tasks: tuple[str, ...], hint: bool
) -> None:
    record, spec = RunRecord.load(tiny.folder), replace(store_spec(), tasks=tasks)
    with pytest.raises(UsageError, match="'my-birds' is no task") as caught:
        evaluation_task("my-birds", record, spec, tiny.data)
    assert str(caught.value).endswith("give --task manifest") == hint


def test_settings_that_are_not_compared_are_logged(
    tiny: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        check_run_store(RunRecord.load(tiny.folder), clip_spec(), "clips.zarr")
    (line,) = caplog.messages
    assert "not compared: " in line
    assert "fingerprint.frames is 8, in training absent" in line


@pytest.mark.parametrize("field", ["weights", "preprocessing"])
def test_another_encoder_is_refused_for_other_media_too(tiny: TinyRun, field: str) -> None:
    with pytest.raises(CacheMismatchError, match=f"fingerprint.{field} is other, in training"):
        check_run_store(RunRecord.load(tiny.folder), clip_spec(**{field: "other"}), "clips.zarr")


def test_a_run_that_answers_questions_is_not_evaluated_on_captions(
    tiny: TinyRun, msvd: Path
) -> None:
    options = EvalOptions(
        run=str(tiny.folder), split="test", task="msrvtt-caption", features=[str(msvd)]
    )
    with pytest.raises(
        UsageError, match="tiny was trained to generate answers, and msrvtt-caption needs captions"
    ):
        evaluate(options)


def test_a_store_with_other_features_is_refused_with_every_difference(tiny: TinyRun) -> None:
    record = RunRecord.load(tiny.folder)
    other = replace(
        store_spec(), width=9, fingerprint={"weights": "87654321", "preprocessing": "native"}
    )
    with pytest.raises(CacheMismatchError) as caught:
        check_run_store(record, other, "other.zarr")
    assert "fingerprint.weights is 87654321, in training 12345678" in str(caught.value)
    assert "width is 9, in training 8" in str(caught.value)
    assert "preprocessing" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "vit-l16"}, "encoder is vit-l16, in training tiny-vit"),
        ({"layers": (1, 2)}, r"layers is \(1, 2\), in training \(0, 1\)"),
        ({"width": 9}, "width is 9, in training 8"),
        ({"dtype": "float32"}, "dtype is float32, in training float16"),
        (
            {"fingerprint": {"weights": "8765", "preprocessing": "native"}},
            "fingerprint.weights is 8765, in training 12345678",
        ),
        (
            {"fingerprint": {"weights": "12345678", "preprocessing": "official"}},
            "fingerprint.preprocessing is official, in training native",
        ),
        (
            {"fingerprint": {"weights": "12345678"}},
            "fingerprint.preprocessing is absent, in training native",
        ),
        (
            {"fingerprint": store_spec().fingerprint | {"frames": "8"}},
            "fingerprint.frames is 8, in training absent",
        ),
    ],
)
def test_each_field_that_determines_the_features_is_compared(
    tiny: TinyRun, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(CacheMismatchError, match=words) as caught:
        check_run_store(RunRecord.load(tiny.folder), replace(store_spec(), **change), "o.zarr")
    assert caught.value.exit_code == 4


def test_settings_of_augmented_views_do_not_matter_to_evaluation(tiny: TinyRun) -> None:
    seeded = store_spec().fingerprint | {"views.seed": "3"}
    check_run_store(
        RunRecord.load(tiny.folder),
        replace(store_spec(), views=4, fingerprint=seeded),
        "augmented.zarr",
    )


def test_a_store_of_another_data_set_is_accepted(tiny: TinyRun) -> None:
    record = RunRecord.load(tiny.folder)
    check_run_store(record, replace(store_spec(), dataset="gqa", count=9, views=8), "gqa.zarr")


def test_the_samples_of_a_moved_manifest_file_are_found(tmp_path: Path) -> None:
    data = make_run(tmp_path).data
    (data / "train.jsonl").unlink()
    data.joinpath("val.jsonl").rename(data / "desk.jsonl")
    spec = replace(store_spec(), media="/then/data/desk.jsonl")
    assert set(find_media(spec, data)) == {"a.png", "b.png", "c.png", "d.png"}


def test_the_warning_about_missing_samples_names_the_path_of_extraction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_media(replace(store_spec(), media="/then/data/desk.jsonl"), tmp_path) == {}
    (line,) = caplog.messages
    assert line.endswith("there is no file or folder /then/data/desk.jsonl")


def test_files_outside_the_data_set_are_shown_only_if_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "val.jsonl").write_text('{"id": "1", "media": "../private.png"}')
    spec = replace(store_spec(), media=str(folder))
    assert find_media(spec, folder) == {}
    assert "private.png" in caplog.text
    assert "--allow-outside" in caplog.text
    assert set(find_media(spec, folder, allow_outside=True)) == {"../private.png"}
