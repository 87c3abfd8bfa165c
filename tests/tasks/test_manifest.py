import json
from collections import Counter
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.task_registry import load_media, load_task
from epalm.tasks.types import Example
from tests.tasks.annotation_files import shared_data

QUESTION: dict[str, object] = {
    "id": "q1",
    "media": "images/7.jpg",
    "prompt": "What is it?",
    "answers": ["a lamp"],
}
CAPTION: dict[str, object] = {
    "id": 3,
    "media": "images/7.jpg",
    "answers": ["A lamp.", "Une lampe à l'été."],
}


def write_lines(file: Path, *lines: dict[str, object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file.write_text(text, encoding="utf-8")
    return file


def read(folder: Path, split: str) -> list[Example]:
    return load_task("manifest", folder).examples(split, folder)


def test_each_media_file_is_listed_once_in_order_of_train_val_and_test(tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    write_lines(folder / "test.jsonl", CAPTION | {"media": "c.png"}, CAPTION | {"media": "a.jpg"})
    write_lines(folder / "train.jsonl", CAPTION | {"media": "b.jpg"}, CAPTION | {"media": "a.jpg"})
    write_lines(folder / "val.jsonl", CAPTION | {"media": "b.jpg"})
    write_lines(folder / "other.jsonl", CAPTION | {"media": "d.jpg"})
    media = load_media(str(folder))
    assert [item.key for item in media.items] == ["b.jpg", "a.jpg", "c.png"]
    assert [item.path for item in media.items][2] == folder / "c.png"
    assert (media.name, media.tasks, media.root) == ("desk", ("manifest",), folder)


def test_a_single_file_is_named_after_its_folder_and_itself(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "desk" / "extra.jsonl", CAPTION)
    media = load_media(str(file))
    assert (media.name, media.root) == ("desk-extra", tmp_path / "desk")
    assert len(read(media.root, "extra")) == 1


def test_the_current_folder_is_named_by_its_real_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "desk" / "train.jsonl", CAPTION)
    monkeypatch.chdir(tmp_path / "desk")
    media = load_media(".")
    assert media.name == "desk"
    assert media.root.is_absolute()


def test_the_file_extension_determines_the_modality(tmp_path: Path) -> None:
    clips = ["c.gif", "d.mp4", "e.avi", "f.3gp", "g.flv", "h.ogv", "i.WMV"]
    names = ["a.JPG", "b.png", *clips, "j.wav", "k.ogg", "l.flac", "m.m4a", "n.aac"]
    write_lines(tmp_path / "train.jsonl", *(CAPTION | {"media": name} for name in names))
    modalities = [item.modality for item in load_media(str(tmp_path)).items]
    assert modalities == ["image"] * 2 + ["video"] * 7 + ["audio"] * 5


def test_lines_with_prompts_make_a_question_answering_task(tmp_path: Path) -> None:
    group = {"question_type": "what is", "answer_type": "other"}
    write_lines(tmp_path / "train.jsonl", QUESTION, QUESTION | {"id": "q2"} | group)
    task = load_task("manifest", tmp_path)
    assert (task.kind, task.metric, task.splits) == ("qa", "exact", ("train",))
    first, second = task.examples("train", tmp_path)
    assert (first.key, first.question_id, first.prompt) == ("images/7.jpg", "q1", "What is it?")
    assert first.answers == first.references == ("a lamp",)
    assert first.question_type == ""
    assert (second.question_type, second.answer_type) == ("what is", "other")


def test_lines_without_prompts_make_a_captioning_task(tmp_path: Path) -> None:
    write_lines(tmp_path / "val.jsonl", CAPTION, CAPTION | {"id": 4, "prompt": ""})
    task = load_task("manifest", tmp_path)
    assert (task.kind, task.metric) == ("caption", "caption")
    examples = task.examples("val", tmp_path)
    assert [example.question_id for example in examples] == ["3", "4"]
    assert examples[0].references == ("A lamp.", "Une lampe à l'été.")


def test_a_csv_file_is_read_like_a_jsonl_file(tmp_path: Path) -> None:
    lines = (
        QUESTION | {"answers": ["a lamp", 'a "lamp", red']},
        QUESTION | {"id": "q2", "prompt": "Où?\nWhere?", "answers": ["here|there"]},
        QUESTION | {"id": "q3", "answers": []},
    )
    write_lines(tmp_path / "json" / "val.jsonl", *lines)
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "val.csv").write_text(
        "\ufeffid,media,prompt,answers\r\n"
        'q1,images/7.jpg,What is it?,"a lamp|a ""lamp"", red"\r\n'
        'q2,images/7.jpg,"Où?\nWhere?","[""here|there""]"\r\n'
        "q3,images/7.jpg,What is it?,\r\n",
        encoding="utf-8",
        newline="",
    )
    assert read(tmp_path / "csv", "val") == read(tmp_path / "json", "val")


def test_a_csv_file_without_a_prompt_column_makes_a_captioning_task(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("id,media,answers\n1,a.wav,A dog|Barking\n")
    (example,) = read(tmp_path, "train")
    assert (example.prompt, example.answers) == ("", ("A dog", "Barking"))


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text(f"\n{json.dumps(CAPTION)}\n  \n\n")
    assert len(read(tmp_path, "val")) == 1


def test_a_test_split_may_lack_answers_but_the_training_split_may_not(tmp_path: Path) -> None:
    unanswered = {key: value for key, value in QUESTION.items() if key != "answers"}
    write_lines(tmp_path / "test.jsonl", unanswered)
    assert read(tmp_path, "test")[0].references == ()
    write_lines(tmp_path / "train.jsonl", QUESTION, unanswered | {"id": "q2"})
    with pytest.raises(MalformedFileError, match=r"train.jsonl, line 2: no answers"):
        read(tmp_path, "train")


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        ('{"id": "q2", "media"', r"invalid JSON at column \d+"),
        ('["q2"]', r'found \["q2"\], expected an object'),
        ('{"media": "a.jpg", "prompt": "Why?"}', "id missing or empty"),
        ('{"id": "q2", "media": " ", "prompt": "Why?"}', "media missing or empty"),
        ('{"id": 2.5, "media": "a.jpg"}', "id is 2.5, expected a string"),
        ('{"id": "q2", "media": "a.jpg", "prompt": 7}', "prompt is 7, expected a string"),
        ('{"id": "q2", "media": "a.jpg", "answers": "x"}', 'answers is "x", expected a list'),
        ('{"id": "q2", "media": "a.jpg", "answers": [3]}', "answers contains 3, expected a list"),
        ('{"id": "q2", "media": "a.jpg", "answers": [""]}', 'answers contains "", expected a list'),
        (
            '{"id": "q2", "media": "a.jpg", "question": "?"}',
            "unknown columns 'question'; known are id, media",
        ),
        ('{"id": "q2", "media": "a.jpg"}', "no prompt, but the first line of val.jsonl has one"),
        (json.dumps(QUESTION), "id 'q1' is already used in line 1"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(
    tmp_path: Path, second_line: str, message: str
) -> None:
    (tmp_path / "val.jsonl").write_text(f"{json.dumps(QUESTION)}\n{second_line}\n")
    with pytest.raises(MalformedFileError, match=f"val.jsonl, line 2: {message}"):
        read(tmp_path, "val")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q2,a.jpg,Why?,x,y", r"line 3: more cells than columns in the header: \['y'\]"),
        ("q2,a.jpg,Why?,[x", r"line 3: answers begin with '\[' but are not a JSON list"),
        ('q2,a.jpg,Why?,"x" y', "line 3: "),
        ("q2", "line 3: media missing or empty"),
    ],
)
def test_a_malformed_csv_row_is_refused_with_its_number(
    tmp_path: Path, row: str, message: str
) -> None:
    text = f"id,media,prompt,answers\nq1,a.jpg,Why?,x\n{row}\n"
    (tmp_path / "val.csv").write_text(text)
    with pytest.raises(MalformedFileError, match=message):
        read(tmp_path, "val")


def test_a_prompt_in_a_captioning_manifest_is_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", CAPTION)
    write_lines(tmp_path / "val.jsonl", QUESTION)
    with pytest.raises(MalformedFileError, match=r"val.jsonl, line 1: a prompt, but"):
        read(tmp_path, "val")


def test_an_unknown_extension_is_refused_when_media_are_listed(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", QUESTION, QUESTION | {"media": "notes.txt"})
    with pytest.raises(MalformedFileError, match=r"line 2: media 'notes.txt' has none .*jpg"):
        load_media(str(tmp_path))


def test_an_unknown_split_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for name in ("val", "train", "audio"):
        write_lines(tmp_path / f"{name}.jsonl", CAPTION)
    with pytest.raises(UnknownSplitError, match="'test': choose one of train, val, audio"):
        read(tmp_path, "test")


def test_a_folder_without_a_manifest_is_refused_with_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r'expected train.jsonl.*"media"'):
        load_media(str(tmp_path))
    with pytest.raises(MissingFileError, match="contains no manifest"):
        load_task("manifest", tmp_path)
    write_lines(tmp_path / "audio.jsonl", CAPTION)
    with pytest.raises(MissingFileError, match=r"none of train, val and test.* only audio"):
        load_media(str(tmp_path))


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "val.jsonl", CAPTION)
    (tmp_path / "val.csv").write_text("id,media,answers\n1,a.wav,A dog\n")
    with pytest.raises(MalformedFileError, match=r"val.csv and val.jsonl: remove one"):
        load_media(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "contains no example"), (b'{"id": "\xff"}', "is not UTF-8")]
)
def test_an_empty_or_undecodable_file_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "val.jsonl").write_bytes(content)
    with pytest.raises(MalformedFileError, match=message):
        load_task("manifest", tmp_path)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(MalformedFileError, match=r"train.json does not end in .jsonl or .csv"):
        load_media(str(tmp_path / "train.json"))


@pytest.mark.parametrize(
    ("name", "media", "modality", "counts"),
    [
        ("daquar", 794, "image", {"train": 5820, "val": 975}),
        ("easy_vqa", 4500, "image", {"train": 28896, "val": 4840, "test": 9673}),
        ("easy_vqa_video", 2200, "video", {"train": 5241, "val": 1030, "test": 1429}),
        ("esc10", 320, "audio", {"train": 240, "val": 80}),
    ],
)
def test_real_manifests_have_their_published_counts(
    name: str, media: int, modality: str, counts: dict[str, int]
) -> None:
    folder = shared_data(name)
    dataset = load_media(str(folder))
    assert Counter(item.modality for item in dataset.items) == {modality: media}
    task = load_task("manifest", folder)
    assert task.kind == "qa"
    examples = {split: task.examples(split, folder) for split in task.splits}
    assert {name: len(split) for name, split in examples.items()} == counts
    keys = {example.key for split in examples.values() for example in split}
    assert keys == {item.key for item in dataset.items}


def test_real_audio_and_video_captions_are_two_datasets_in_one_folder() -> None:
    folder = shared_data("audiocaps_clips")
    sound = load_media(str(folder / "audio.jsonl"))
    film = load_media(str(folder / "video.jsonl"))
    assert Counter(item.modality for item in sound.items) == {"audio": 7}
    assert Counter(item.modality for item in film.items) == {"video": 5}
    assert [len(example.references) for example in read(folder, "audio")] == [5] * 7


def test_a_mixture_of_questions_and_captions_is_refused_before_anything_is_encoded(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.jsonl").write_text('{"id": "1", "media": "a.jpg", "prompt": "what?"}\n')
    (tmp_path / "val.jsonl").write_text('{"id": "2", "media": "b.jpg", "answers": ["a dog"]}\n')
    with pytest.raises(MalformedFileError, match=r"val\.jsonl, line 1: no prompt.*train\.jsonl"):
        load_media(str(tmp_path))
