import json
import random
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError
from epalm.tasks import manifest
from epalm.tasks.streams import media_lines
from epalm.tasks.streams.media_lines import MediaLines


def row(number: int, **changes: object) -> str:
    return json.dumps({"id": f"q{number}", "media": f"{number}.jpg", "answers": ["a"]} | changes)


VALID = [
    row(0),
    row(1, id=17),
    row(2, media="ä ö.PNG"),
    row(3, answers=None),
    json.dumps({"media": "é.jpg", "id": "ü"}, ensure_ascii=False),
    "",
    " \t ",
    "  " + row(4) + "  ",
    row(5, question_type="a", answer_type="b"),
    row(6, prompt=" "),
    row(7, prompt=None),
    row(0),
    '{"id": "x",\r "media": "cr.jpg"}\r'.replace("\r", " "),
]

INVALID = {
    "no object": "[1]",
    "two objects": row(1) + row(2),
    "half an object": '{"id": "x"',
    "unknown column": row(1, other=2),
    "no media": '{"id": "x"}',
    "empty media": row(1, media=" "),
    "no id": '{"media": "1.jpg"}',
    "a number as media": row(1, media=3),
    "true as id": row(1, id=True),
    "a prompt": row(1, prompt="what?"),
    "a prompt of another type": row(1, prompt=[]),
    "an answer that is empty": row(1, answers=["a", " "]),
    "an answer that is a number": row(1, answers=[1]),
    "answers as text": row(1, answers="a"),
    "NUL": row(1, media="a\0.jpg"),
    "half of a surrogate pair": row(1, media="\ud800.jpg"),
    "unknown extension": row(1, media="a.exe"),
    "a list": '["media"]',
    "a text": '"media"',
}


def read(path: Path, start: int = 0, stop: int | None = None) -> list[str]:
    lines = MediaLines(path, "caption", "image", path)
    return [name for batch in lines.read(start, stop) for name in batch]


def slow(path: Path) -> list[str]:
    return [item.key for item in manifest.media(path).items]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_media_are_those_of_the_reader_of_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + ending.join(VALID).encode())
    assert list(dict.fromkeys(read(path))) == slow(path)


@pytest.mark.parametrize("line", INVALID.values(), ids=INVALID.keys())
def test_malformed_lines_give_the_error_of_the_reader_of_rows(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join([*VALID, line, row(9)]) + "\n", encoding="utf-8")
    with pytest.raises(MalformedFileError) as known:
        slow(path)
    end = len(f"{line}\n{row(9)}\n".encode())
    for start in (0, path.stat().st_size - end - 1):
        with pytest.raises(MalformedFileError, match=f"line {len(VALID) + 1}: ") as actual:
            read(path, start)
        assert str(actual.value) == str(known.value)


def test_another_modality_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{row(0)}\n{row(1, media='b.mp4')}\n")
    with pytest.raises(MalformedFileError, match=r"line 2: media 'b.mp4' is video, the first"):
        read(path)


def test_bytes_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(row(0).encode() + b"\n\xff\n")
    with pytest.raises(MalformedFileError, match="is not UTF-8"):
        read(path)


def test_every_line_belongs_to_one_range_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, source = tmp_path / "train.jsonl", random.Random(1)
    names = [f"{'x' * source.randrange(200)}{number}.jpg" for number in range(200)]
    path.write_text("".join(row(0, media=name) + "\n" * source.randrange(1, 3) for name in names))
    size = path.stat().st_size
    for chunk in (1, 50, 1000, 1 << 20):
        monkeypatch.setattr(media_lines, "CHUNK_BYTES", chunk)
        for step in (97, 1000, size - 1, size, 2 * size):
            ranges = range(0, size, step)
            actual = [name for start in ranges for name in read(path, start, start + step)]
            assert actual == names
