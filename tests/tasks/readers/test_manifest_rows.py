"""Manifests are read as spreadsheets, pandas and people write them; paths are not changed."""

import gc
import json
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError
from epalm.tasks import manifest
from epalm.tasks.readers import manifest_rows
from epalm.tasks.readers.manifest_rows import read_rows
from epalm.tasks.task_registry import load_media, load_task
from epalm.tasks.types import Example, MediaItem

ROWS = (
    Example("a.jpg", "1", "what?", ("yes",), ("yes",)),
    Example("b.jpg", "2", "how many, if any?", ("3,5", "4"), ("3,5", "4")),
)
"""The content of every table below."""


def read_csv(folder: Path, content: str | bytes) -> list[Example]:
    data = content.encode() if isinstance(content, str) else content
    (folder / "val.csv").write_bytes(data)
    return load_task("manifest", folder).examples("val", folder)


PLAIN = 'id,media,prompt,answers\n1,a.jpg,what?,yes\n2,b.jpg,"how many, if any?","3,5|4"\n'


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param("\ufeff" + PLAIN.replace("\n", "\r\n"), id="byte order mark and CRLF"),
        pytest.param(PLAIN.replace("\n", "\r"), id="CR alone"),
        pytest.param(PLAIN.removesuffix("\n"), id="no newline at the end"),
        pytest.param(PLAIN + "\n\n,,,\n  \n", id="empty lines at the end"),
        pytest.param("\n" + PLAIN, id="empty line before the header"),
        pytest.param(
            ",id,media,prompt,answers\n0,1,a.jpg,what?,yes\n"
            '1,2,b.jpg,"how many, if any?","3,5|4"\n',
            id="index of pandas",
        ),
        pytest.param(
            "Unnamed: 0,id,media,prompt,answers\n0,1,a.jpg,what?,yes\n"
            '1,2,b.jpg,"how many, if any?","3,5|4"\n',
            id="index of pandas, read and written again",
        ),
        pytest.param(
            'id,media,prompt,answers,\n1,a.jpg,what?,yes,\n2,b.jpg,"how many, if any?","3,5|4",\n',
            id="a comma at the end of each line",
        ),
        pytest.param(
            "\ufeffid;media;prompt;answers\r\n1;a.jpg;what?;yes\r\n"
            "2;b.jpg;how many, if any?;3,5|4\r\n",
            id="semicolons of a European Excel",
        ),
        pytest.param(
            '"id"\t"media"\t"prompt"\t"answers"\n1\ta.jpg\twhat?\tyes\n'
            "2\tb.jpg\thow many, if any?\t3,5|4\n",
            id="tabs and quoted names",
        ),
    ],
)
def test_every_csv_dialect_is_read_alike(tmp_path: Path, content: str) -> None:
    assert tuple(read_csv(tmp_path, content)) == ROWS


def test_a_quoted_cell_keeps_its_line_break(tmp_path: Path) -> None:
    (example,) = read_csv(tmp_path, 'id,media,answers\r\n1,a.jpg,"two\r\nlines"\r\n')
    assert example.answers == ("two\r\nlines",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,media,,answers\n1,a.jpg,x,y\n", 'line 2: the cell "x" is in a column without a name'),
        (b"id,media,id\n1,a.jpg,2\n", "line 1: duplicate column 'id'"),
        (b"id,media\n1,a\0.jpg\n", "line 2: media .* contains a NUL character"),
        ("id,media\n1,é.jpg\n".encode("cp1252"), "is not UTF-8"),
        ("id,media\n1,a.jpg\n".encode("utf-16"), "is not UTF-8"),
        (b'id,media\n1,"a.jpg\n2,b.jpg\n', "line 3: unexpected end of data"),
        (b"id,media\n1," + b"a" * 200_000 + b"\n", "line 2: field larger than field limit"),
        (b"id,media\n", "contains no example"),
        (
            b'id,media,answers\n1,a.jpg,"[""\\ud83d""]"\n',
            r"line 2: answers contains U\+D83D, half of a surrogate pair",
        ),
        (b"id,media,answers\n1,a.jpg," + b"[" * 100_000 + b"\n", "line 2: .*nested too deeply"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(MalformedFileError, match=f"val.csv.*{message}"):
        read_csv(tmp_path, content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'{"id": "\ud800", "media": "a.jpg"}', r"id contains U\+D800, half of a surrogate pair"),
        (r'{"id": 1, "media": "\udc00.jpg"}', r"media contains U\+DC00"),
        (r'{"id": 1, "media": "a.jpg", "prompt": "\ud83d?"}', r"prompt contains U\+D83D"),
        (r'{"id": 1, "media": "a.jpg", "answers": ["\ud83d"]}', r"answers contains U\+D83D"),
        (r'{"id": 1, "media": "a\u0000.jpg"}', r"media .*a\\u0000.jpg.* contains a NUL character"),
        (
            r'{"id": 1, "media": "a.jpg", "\ud800": 1}',
            r"columns '\\ud800'; known are|contains",
        ),
        ("[" * 100_000, "lists or objects are nested too deeply"),
        ('{"id":' * 100_000, "lists or objects are nested too deeply"),
        ('{"id": ' + "9" * 5000 + ', "media": "a.jpg"}', "an integer has too many digits"),
        ('{"id": 1e400, "media": "a.jpg"}', "id is Infinity, expected a string"),
        ('{"id": NaN, "media": "a.jpg"}', "id is NaN, expected a string"),
        ('{"id": 1, "media": "a.jpg", "answers": [NaN]}', "answers contains NaN"),
        ('{"id": 1, "media": "a.jpg", "prompt": ' + "[" * 900 + "]" * 900 + "}", "prompt is "),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "train.jsonl").write_text('{"id": "0", "media": "a.jpg"}\n' + text + "\n")
    with pytest.raises(MalformedFileError, match=rf"train.jsonl, line 2: .*({message})") as raised:
        load_media(str(tmp_path))
    str(raised.value).encode()  # every message can be printed


def test_a_surrogate_pair_of_escapes_is_one_character(tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text(
        '{"id": 1, "media": "a.jpg", "answers": ["\\ud83d\\ude00"]}'
    )
    assert next(read_rows(tmp_path / "val.jsonl")).answers == ("😀",)


def test_an_endless_line_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_rows, "MAX_LINE_CHARACTERS", 1000)
    (tmp_path / "val.jsonl").write_text('[{"id": 1}, ' * 1000)
    with pytest.raises(MalformedFileError, match="line 1: longer than 1000 characters"):
        load_media(str(tmp_path))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_ids_and_paths_are_used_as_written_and_texts_are_stripped(
    tmp_path: Path, suffix: str
) -> None:
    name = " typical place.wav"
    text = f"id,media,answers\n 1 ,{name}, people talk \n"
    if suffix == ".jsonl":
        text = json.dumps({"id": " 1 ", "media": name, "answers": [" people talk "]})
    (tmp_path / f"train{suffix}").write_text(text)
    (tmp_path / name).touch()
    (item,) = load_media(str(tmp_path)).items
    assert item.path.is_file()
    (example,) = load_task("manifest", tmp_path).examples("train", tmp_path)
    assert (example.key, example.question_id, example.answers) == (name, " 1 ", ("people talk",))


def test_each_file_is_opened_once_and_read_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    for split in ("train", "val"):
        (tmp_path / f"{split}.jsonl").write_text('{"id": 1, "media": "a.jpg"}\n' * 3)
    take = Path.open

    def note(file: Path, *arguments: str, **names: str) -> object:
        opened.append(file.name)
        return take(file, *arguments, **names)

    monkeypatch.setattr(Path, "open", note)
    load_media(str(tmp_path))
    assert opened == ["train.jsonl", "val.jsonl"]
    assert next(read_rows(tmp_path / "val.jsonl")).line == 1


@pytest.mark.parametrize("text", [" {} ", "{}", "{}\r\n", "\t{}\n", "{}\n"])
def test_whitespace_around_a_line_is_ignored(tmp_path: Path, text: str) -> None:
    line = '{"id": "1", "media": "a.jpg"}'
    (tmp_path / "val.jsonl").write_bytes(text.replace("{}", line).encode())
    assert [row.media for row in read_rows(tmp_path / "val.jsonl")] == ["a.jpg"]


@pytest.mark.parametrize(("rest", "column"), [("x", 30), (' {"id": "2"}', 31), ("\u00a0", 30)])
def test_text_after_the_object_of_a_line_is_refused_with_its_column(
    tmp_path: Path, rest: str, column: int
) -> None:
    line = '{"id": "1", "media": "a.jpg"}'
    (tmp_path / "val.jsonl").write_text(f"{line}{rest}\n", encoding="utf-8")
    with pytest.raises(
        MalformedFileError, match=rf"line 1: invalid JSON at column {column} \(Extra"
    ):
        list(read_rows(tmp_path / "val.jsonl"))


@pytest.mark.parametrize("media", ["a.jpg", "a.txt"])
def test_the_garbage_collector_is_enabled_again_after_a_manifest_was_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, media: str
) -> None:
    seen: list[bool] = []

    def made(*fields: str) -> MediaItem:
        seen.append(gc.isenabled())
        return MediaItem(fields[0], tmp_path, fields[2])

    monkeypatch.setattr(manifest, "MediaItem", made)
    (tmp_path / "val.jsonl").write_text(
        f'{{"id": "1", "media": "a.jpg"}}\n{{"id": "2", "media": "{media}"}}'
    )
    if media == "a.jpg":
        load_media(str(tmp_path))
    else:
        with pytest.raises(MalformedFileError, match="line 2"):
            load_media(str(tmp_path))
    assert seen == [False]
    assert gc.isenabled()
