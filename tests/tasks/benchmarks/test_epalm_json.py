import json
import logging
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.task_registry import load_media, load_task


def asked(video: str, number: int, question: str, **label: float) -> dict[str, object]:
    return {"video": video, "question": question, "question_id": number, "label": label}


def write(root: Path, name: str, *records: object) -> None:
    (root / "annotation").mkdir(exist_ok=True)
    (root / "annotation" / name).write_text(json.dumps(records), encoding="utf-8")


@pytest.fixture
def msrvtt(tmp_path: Path) -> Path:
    sent = {"video": "video0.mp4", "sent": " who sings? ", "question_id": "v1"}
    write(
        tmp_path,
        "msrvtt_vqa_train.json",
        asked("video0.mp4", 0, "what is on it?", couch=1.0, sofa=0.3),
        asked("video7.mp4", 1, "who runs?", man=1),
        sent | {"label": {"girl": 1.0}},
    )
    write(tmp_path, "msrvtt_vqa_val.json", asked("video8.mp4", 0, "why?", fun=1.0))
    write(tmp_path, "msrvtt_vqa_test.json", asked("video9.mp4", 0, "how many?", two=1.0))
    write(
        tmp_path,
        "msrvtt_caption_train7k.json",
        {"video": "video7.mp4", "caption": ["A man runs.", " Running. "]},
        {"video": "video6.mp4", "caption": "Un café."},
        {"video": "video7.mp4", "caption": "A race."},
    )
    write(
        tmp_path,
        "msrvtt_caption_test.json",
        {"video": "video9.mp4", "caption": ["Two dogs.", "Dogs play."]},
        {"video": "video5.mp4", "caption": "A song."},
    )
    (tmp_path / "videos" / "all").mkdir(parents=True)
    return tmp_path


def test_the_media_of_a_dataset_are_the_union_over_its_files(msrvtt: Path) -> None:
    media = load_media("msrvtt", msrvtt)
    assert [item.key for item in media.items] == [
        f"video{number}.mp4" for number in (0, 7, 8, 9, 6, 5)
    ]
    assert media.items[0].path == msrvtt / "videos" / "all" / "video0.mp4"
    assert {item.modality for item in media.items} == {"video"}
    assert (media.name, media.root) == ("msrvtt", msrvtt)
    assert media.tasks == ("msrvtt-qa", "msrvtt-caption")


def test_missing_files_are_logged_and_their_media_left_out(
    msrvtt: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("msrvtt_vqa_train", "msrvtt_vqa_val", "msrvtt_vqa_test", "msrvtt_caption_test"):
        (msrvtt / "annotation" / f"{name}.json").unlink()
    with caplog.at_level(logging.WARNING):
        media = load_media("msrvtt", msrvtt)
    assert [item.key for item in media.items] == ["video7.mp4", "video6.mp4"]
    assert media.tasks == ("msrvtt-caption",)
    (line,) = caplog.messages
    assert "using only the media listed in msrvtt_caption_train7k.json" in line
    assert line.endswith(
        "not found: msrvtt_vqa_train.json, msrvtt_vqa_val.json, msrvtt_vqa_test.json, "
        "msrvtt_caption_test.json"
    )


def test_a_complete_dataset_logs_nothing(msrvtt: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_media("msrvtt", msrvtt)
    assert not caplog.messages


def test_questions_are_in_file_order_with_the_label_scores_as_weights(msrvtt: Path) -> None:
    task = load_task("msrvtt-qa")
    assert (task.kind, task.metric) == ("qa", "label")
    first, second, third = task.examples("train", msrvtt)
    assert (first.key, first.question_id, first.prompt) == ("video0.mp4", "0", "what is on it?")
    assert first.answers == first.references == ("couch", "sofa")
    assert first.weights == (1.0, 0.3)
    assert (second.key, second.answers, second.weights) == ("video7.mp4", ("man",), (1.0,))
    assert (third.question_id, third.prompt) == ("v1", "who sings?")
    assert [example.key for example in task.examples("test", msrvtt)] == ["video9.mp4"]


def test_training_has_one_example_per_caption_in_a_list_or_a_string(msrvtt: Path) -> None:
    examples = load_task("msrvtt-caption").examples("train", msrvtt)
    assert [(example.key, example.question_id, example.answers) for example in examples] == [
        ("video7.mp4", "video7.mp4#0", ("A man runs.",)),
        ("video7.mp4", "video7.mp4#1", ("Running.",)),
        ("video7.mp4", "video7.mp4#2", ("A race.",)),
        ("video6.mp4", "video6.mp4#0", ("Un café.",)),
    ]
    assert {example.prompt for example in examples} == {""}


def test_msrvtt_captions_are_validated_on_the_test_file_as_published(msrvtt: Path) -> None:
    task = load_task("msrvtt-caption")
    first, second = task.examples("test", msrvtt)
    assert (first.question_id, first.references) == ("video9.mp4", ("Two dogs.", "Dogs play."))
    assert (second.question_id, second.references) == ("video5.mp4", ("A song.",))
    assert task.examples("val", msrvtt) == [first, second]


def test_the_longer_training_list_and_the_shorter_test_list_are_additional_splits(
    msrvtt: Path,
) -> None:
    task = load_task("msrvtt-caption")
    assert task.examples("train7k", msrvtt) == task.examples("train", msrvtt)
    with pytest.raises(MissingFileError, match=r"msrvtt_caption_train9k.json was not found"):
        task.examples("train9k", msrvtt)
    records = [{"video": f"video{number}.mp4", "caption": ["A.", "B."]} for number in (1, 2)]
    write(msrvtt, "msrvtt_caption_train9k.json", *records)
    write(msrvtt, "msrvtt_caption_test1k.json", *records)
    assert len(task.examples("train9k", msrvtt)) == 4
    assert len(task.examples("test1k", msrvtt)) == 2
    assert "video1.mp4" in {item.key for item in load_media("msrvtt", msrvtt).items}


def test_a_test_clip_with_several_records_is_one_example(tmp_path: Path) -> None:
    records = [{"audio": "test/a.wav", "caption": text} for text in ("A dog.", "Barking.")]
    write(tmp_path, "audiocaps_caption_test.json", *records)
    (example,) = load_task("audiocaps-caption").examples("test", tmp_path)
    assert example.references == ("A dog.", "Barking.")


def test_audiocaps_clips_are_in_the_folder_audios(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        record = {"audio": f"{split}/a.wav", "caption": "A dog barks."}
        write(tmp_path, f"audiocaps_caption_{split}.json", record)
    (tmp_path / "audios").mkdir()
    media = load_media("audiocaps", tmp_path)
    assert [item.path for item in media.items] == [
        tmp_path / "audios" / split / "a.wav" for split in ("train", "val", "test")
    ]
    assert {item.modality for item in media.items} == {"audio"}
    assert media.tasks == ("audiocaps-caption",)


def test_msvd_is_found_in_a_folder_of_its_name_below_the_root(tmp_path: Path) -> None:
    below = tmp_path / "msvd"
    (below / "videos" / "all").mkdir(parents=True)
    write(below, "msvd_vqa_val.json", asked("a.avi", 4, "who?", man=1.0))
    media = load_media("msvd", tmp_path)
    assert [item.path for item in media.items] == [below / "videos" / "all" / "a.avi"]
    assert media.root == tmp_path
    assert len(load_task("msvd-qa").examples("val", tmp_path)) == 1


def test_two_datasets_share_a_data_root_without_mixing(msrvtt: Path) -> None:
    write(msrvtt, "msvd_vqa_test.json", asked("vid1.avi", 4, "who?", man=1.0))
    assert [item.key for item in load_media("msvd", msrvtt).items] == ["vid1.avi"]
    assert "vid1.avi" not in {item.key for item in load_media("msrvtt", msrvtt).items}


def test_without_any_file_the_error_lists_the_searched_paths(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        load_media("msvd", tmp_path)
    message = str(caught.value)
    for place in ("annotation", "msvd/annotation", "msvd"):
        assert str(tmp_path / place / "msvd_vqa_train.json") in message
    assert "--data-root" in message


def test_without_the_video_folder_the_error_lists_the_searched_folders(msrvtt: Path) -> None:
    (msrvtt / "videos" / "all").rmdir()
    (msrvtt / "videos").rmdir()
    with pytest.raises(MissingFileError, match="the video files of MSRVTT") as caught:
        load_media("msrvtt", msrvtt)
    assert str(msrvtt / "videos" / "all") in str(caught.value)
    assert str(msrvtt / "msrvtt" / "videos") in str(caught.value)


def test_a_split_whose_file_is_missing_is_reported(msrvtt: Path) -> None:
    (msrvtt / "annotation" / "msrvtt_vqa_val.json").unlink()
    with pytest.raises(MissingFileError, match=r"msrvtt_vqa_val.json was not found"):
        load_task("msrvtt-qa").examples("val", msrvtt)
    with pytest.raises(UnknownSplitError, match="msrvtt-qa has no split 'train7k'"):
        load_task("msrvtt-qa").examples("train7k", msrvtt)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"video": 7}, r"\[1\].video is 7, expected a string"),
        ({"question": " "}, r"\[1\].question is \" \", expected a string that is not empty"),
        ({"question_id": None}, r"\[1\].question_id is null, expected an integer or a string"),
        ({"label": "man"}, r'\[1\].label is "man", expected an object with at least 1 answer'),
        ({"label": {}}, r"\[1\].label is {}, expected an object with at least 1 answer"),
        ({"label": {"man": 3}}, r"\[1\].label is {\"man\": 3}, expected .* score from 0 to 1"),
        (
            {"label": {"man": True}},
            r"\[1\].label is {\"man\": true}, expected .* 0 to 1",
        ),
        ({"question_id": 0}, "duplicate id 0"),
    ],
)
def test_a_malformed_question_is_refused_with_its_position(
    tmp_path: Path, spoil: dict[str, object], message: str
) -> None:
    good = asked("a.mp4", 0, "who?", man=1.0)
    write(tmp_path, "msvd_vqa_test.json", good, asked("b.mp4", 1, "who?", man=1.0) | spoil)
    with pytest.raises(MalformedFileError, match=f"msvd_vqa_test.json: {message}"):
        load_task("msvd-qa").examples("test", tmp_path)


def test_a_question_without_text_is_refused(tmp_path: Path) -> None:
    silent = {"video": "a.mp4", "question_id": 1, "label": {"man": 1.0}}
    write(tmp_path, "msvd_vqa_test.json", silent)
    with pytest.raises(MalformedFileError, match=r"\[0\].sent is missing"):
        load_task("msvd-qa").examples("test", tmp_path)


@pytest.mark.parametrize("caption", [[], "", [" "], ["A dog.", 3], None, {"a": 1}])
def test_a_malformed_caption_is_refused_with_its_position(tmp_path: Path, caption: object) -> None:
    write(tmp_path, "audiocaps_caption_val.json", {"audio": "a.wav", "caption": caption})
    with pytest.raises(MalformedFileError, match=r"\[0\].caption is .*, expected a string or a"):
        load_task("audiocaps-caption").examples("val", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"msvd_vqa_val.json is \{\}, expected a list of objects"),
        ("[]", r"msvd_vqa_val.json is \[\], expected a list of objects"),
        ('["a.mp4"]', r'msvd_vqa_val.json: \[0\] is "a.mp4", expected an object'),
        ('[{"video": "a', "msvd_vqa_val.json: invalid JSON at line 1"),
    ],
)
def test_a_file_that_is_not_a_list_of_objects_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "msvd_vqa_val.json").write_text(content)
    with pytest.raises(MalformedFileError, match=message):
        load_task("msvd-qa").examples("val", tmp_path)
