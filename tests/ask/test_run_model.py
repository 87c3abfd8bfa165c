"""Answers about new samples: as evaluation gives them, however the samples are given."""

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from epalm.ask.run_model import Model, load
from epalm.cache.readers.open_reader import open_store
from epalm.errors import CacheMismatchError, MediaError, MissingFileError, UsageError
from epalm.model.checkpoints.run_record import RECORD_FILE
from tests.ask.small_runs import SmallRun


def test_answers_are_those_of_the_evaluation_one_by_one_and_in_a_batch(
    image_run: SmallRun, model: Model
) -> None:
    predictions = image_run.predictions
    files: list[Any] = [image_run.file(one) for one in predictions]
    questions = [one["prompt"] for one in predictions]
    expected = [one["prediction"] for one in predictions]
    batch = model.answer(files, questions)
    single = [model.answer(*pair) for pair in zip(files, questions, strict=True)]
    assert batch == single == expected
    for answers in (batch, single):
        given = [answer.log_probability for answer in answers]
        assert given == pytest.approx([one["log_probability"] for one in predictions], abs=1e-4)
        assert [answer.tokens for answer in answers] == [one["tokens"] for one in predictions]


def test_features_are_those_of_the_store_within_float16(image_run: SmallRun, model: Model) -> None:
    keys = sorted({one["key"] for one in image_run.predictions})
    stored = open_store(image_run.folder.store).read(keys)
    files: list[Any] = [image_run.folder.data / key for key in keys]
    encoded = model.encode(files)
    assert encoded.dtype == stored.dtype
    np.testing.assert_allclose(encoded.astype(float), stored.astype(float), rtol=2e-3, atol=2e-3)
    assert model.encode(files[0]).shape == stored.shape[1:]


def test_a_sample_may_be_a_path_bytes_an_image_or_an_array(
    image_run: SmallRun, model: Model
) -> None:
    one = image_run.predictions[0]
    path = image_run.file(one)
    content = path.read_bytes()
    image = Image.open(BytesIO(content)).convert("RGB")
    given: list[Any] = [path, str(path), content, image, np.asarray(image)]
    answers = model.answer(given, one["prompt"])
    assert answers == [one["prediction"]] * len(given)
    probabilities = [answer.log_probability for answer in answers]
    assert probabilities == pytest.approx([one["log_probability"]] * len(given), abs=1e-4)


def test_alternatives_are_different_texts_with_their_probabilities(
    image_run: SmallRun, model: Model
) -> None:
    one = image_run.predictions[0]
    answer = model.answer(image_run.file(one), one["prompt"], top=4)
    assert answer == one["prediction"]
    texts = list(map(str, answer.alternatives))
    probabilities = [each.probability for each in answer.alternatives]
    assert len(texts) == len(set(texts)) == 4
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1
    assert probabilities[0] >= answer.probability * 0.999
    ranked = dict(zip(texts, probabilities, strict=True))
    if answer in ranked:
        assert ranked[answer] == pytest.approx(answer.probability, rel=1e-4)


def test_scores_of_given_answers_are_the_probabilities_with_which_they_are_generated(
    image_run: SmallRun, model: Model
) -> None:
    one = image_run.predictions[0]
    file = image_run.file(one)
    found = model.answer(file, one["prompt"], top=3).alternatives
    (scored,) = model.score(file, one["prompt"], [*map(str, found), "purple"])
    assert scored[:3] == list(found)
    for given, expected in zip(scored, found, strict=False):
        assert given.log_probability == pytest.approx(expected.log_probability, abs=1e-4)
        assert given.tokens == expected.tokens
    assert scored[3].log_probability < found[-1].log_probability


def test_scores_follow_the_order_of_questions_and_answers(
    image_run: SmallRun, model: Model
) -> None:
    files: list[Any] = [image_run.file(one) for one in image_run.predictions[5:9]]
    questions = [one["prompt"] for one in image_run.predictions[5:9]]
    answers = ["yes", "no", "2", "2"]
    together = model.score(files, questions, answers)
    for row, pair in enumerate(zip(files, questions, strict=True)):
        alone = [model.score(*pair, [answer])[0][0] for answer in answers]
        assert [str(one) for one in together[row]] == answers
        assert [one.log_probability for one in together[row]] == pytest.approx(
            [one.log_probability for one in alone], abs=1e-4
        )
    with pytest.raises(UsageError, match="no answers to score"):
        model.score(files, questions, [])
    with pytest.raises(UsageError, match="found 4 samples and 1 questions"):
        model.score(files, questions[:1], answers)


def test_several_questions_about_one_sample_and_other_decoding(
    image_run: SmallRun, model: Model
) -> None:
    one = image_run.predictions[0]
    file = image_run.file(one)
    questions = [each["prompt"] for each in image_run.predictions if each["key"] == one["key"]]
    answers = model.answer(file, questions)
    assert answers == [model.answer(file, question) for question in questions]
    beams = model.answer(file, questions[0], num_beams=3)
    assert beams.log_probability >= answers[0].log_probability - 1e-4
    sampled = [model.answer(file, questions[0], do_sample=True, seed=4) for _ in range(2)]
    assert sampled[0] == sampled[1]


def test_a_run_that_moved_alone_answers_the_same(
    image_run: SmallRun, model: Model, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(image_run.run, moved)
    one = image_run.predictions[0]
    assert load(moved, device="cpu").answer(image_run.file(one), one["prompt"]) == one["prediction"]


def test_an_encoder_with_other_weights_is_refused(image_run: SmallRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(image_run.run, run)
    record = (run / RECORD_FILE).read_text()
    start = record.index('"fingerprint.weights_sha256": "') + len('"fingerprint.weights_sha256": "')
    (run / RECORD_FILE).write_text(record[:start] + "0000" + record[start + 4 :])
    with pytest.raises(CacheMismatchError, match=r"weights_sha256 is .*Give .* --weights"):
        load(run, device="cpu")


@pytest.mark.parametrize(
    ("media", "message"),
    [
        (3, r"found int as image, expected a path, the bytes of a file"),
        (np.zeros((4, 4), np.float32), r"found ndarray \(4, 4\) of float32 as image"),
        ((np.zeros(8), 16_000), "found tuple as image"),
    ],
)
def test_an_object_that_is_no_sample_is_refused(model: Model, media: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=message):
        model.answer(media, "which shape is red?")


def test_wrong_files_and_questions_are_named(model: Model, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    with pytest.raises(MediaError, match=r"broken\.png: not a supported image"):
        model.answer(broken, "which shape is red?")
    with pytest.raises(MissingFileError, match="no such file"):
        model.answer(tmp_path / "absent.png", "which shape is red?")
    with pytest.raises(MissingFileError, match="is a URL, which is not opened"):
        model.answer("https://example.org/a.png", "which shape is red?")
    with pytest.raises(UsageError, match="expected a text"):
        model.answer(broken, " ")
    with pytest.raises(UsageError, match="found 2 samples and 3 questions"):
        model.answer([broken, broken], ["a?", "b?", "c?"])
    with pytest.raises(UsageError, match=r"'beams' is no decoding setting: did you mean num_beams"):
        model.answer(broken, "a?", beams=3)
    with pytest.raises(UsageError, match=r"use answer\(media, question\)"):
        model.caption(broken)


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_clips_and_sounds_are_answered_as_in_the_evaluation(modality: str) -> None:
    from tests.ask.small_runs import small_run

    run = small_run(modality)
    model = load(run.run, device="cpu")
    assert model.modality == modality
    files: list[Any] = [run.file(one) for one in run.predictions]
    if model.answers_questions:
        answers = model.answer(files, [one["prompt"] for one in run.predictions])
    else:
        answers = model.caption(files)
        wave, rate = soundfile.read(files[0], dtype="int16")
        assert model.caption((wave, rate)) == answers[0]
        (scored,) = model.score(files[0], "", [str(answers[0])])
        assert scored[0].log_probability == pytest.approx(answers[0].log_probability, abs=1e-3)
        with pytest.raises(UsageError, match="the run writes captions"):
            model.score(files[0], "what is it?", ["a beep"])
    assert answers == [one["prediction"] for one in run.predictions]
