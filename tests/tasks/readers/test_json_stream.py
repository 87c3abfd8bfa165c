import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError
from epalm.tasks.readers import json_stream
from epalm.tasks.readers.json_record import JsonRecord
from epalm.tasks.readers.json_stream import stream_list, stream_member, stream_object

RECORDS = [
    {"id": 12, "text": "Où est-il ?", "nested": {"a": [1, -2.5e-3, None, True]}},
    {"id": -7, "text": 'a "quoted" \\ \n one', "empty": [], "none": {}},
    {"id": 123456789012345678901234567890, "text": "\U0001f600 ] } , :"},
]


@pytest.fixture(params=[1, 2, 3, 7, 64, 1 << 20])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Chunks end everywhere: within names, numbers, escapes and the bytes of one character."""
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", request.param)
    return int(request.param)


def write(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "file.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def ids(records: Iterator[JsonRecord]) -> list[str]:
    return [record.identifier("id") for record in records]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.usefixtures("chunk")
def test_records_equal_those_of_json_wherever_chunks_end(
    tmp_path: Path, *, indent: int | None, ascii_only: bool
) -> None:
    values = {"head": 12, "other": [1, [2], {"questions": 3}], "questions": RECORDS, "tail": -1.5}
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    records = stream_member(write(tmp_path, "\ufeff" + text + " \r\n"), "questions")
    assert [record._members for record in records] == RECORDS
    listed = json.dumps(RECORDS, indent=indent, ensure_ascii=ascii_only)
    assert [record._members for record in stream_list(write(tmp_path, listed))] == RECORDS
    named = json.dumps(dict(zip("äbc", RECORDS, strict=True)), ensure_ascii=ascii_only)
    pairs = [(name, record._members) for name, record in stream_object(write(tmp_path, named))]
    assert pairs == list(zip("äbc", RECORDS, strict=True))


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1 .the file ends here"),
        ('{"q": [{"id": 1}', "line 1, column 17 .'\\]' is missing"),
        ('{"q": [{"id": 1}]', "line 1, column 18 .'}' is missing"),
        ('{"q": [{"id": 1},\n {"id"', r"line 2, column \d "),
        ('{"q": [{"id": 1},\n {"id": tru]}', "line 2, column 9 .Expecting value"),
        ('{"q": [{"id": 1} {"id": 2}]}', "line 1, column 18 .'\\]' is missing"),
        ('{"q" [1]}', "line 1, column 6 .':' is missing"),
        ("{q: 1}", "line 1, column 2 .a name in quotes is missing"),
        ('{"q": [{"id": 1}]} x', "line 1, column 20 .text after the end"),
        ('{"q": [{"id": 1}],\n "r": "unended', r"line 2, column 7 .Unterminated string"),
        ('{"q": {"id": 1}}', r'file.json: q is \{"id": 1\}\}, expected a list'),
        ('{"q": [7]}', r"file.json: q\[0\] is 7, expected an object"),
        ('{"r": []}', "file.json: q is missing, expected a list"),
        ("[]", r"file.json is \[\], expected an object"),
        (b'{"q": [{"id": "\xff"}]}', "byte 15 is not UTF-8"),
        (b'{"q": [{"id": "\xc3', "byte 15 is not UTF-8"),
        ('{"q": ' + "[" * 100_000, "line 1, column 8 .*nested too deeply"),
        ('{"q": [\n{"id": ' + '{"a":' * 100_000, "line 2, column 1 .*nested too deeply"),
        ('{"q": [{"id": ' + "7" * 5000 + "}]}", "column 8 .an integer has too many digits"),
        ('{"q": [{"id": 1e400}]}', r"q\[0\].id is Infinity, expected an integer or a string"),
        ('{"q": [{"id": NaN}]}', r"q\[0\].id is NaN, expected"),
        ('{"q": [{"id": "a\\u0000"}]}', r"q\[0\].id is .*, expected a string without NUL"),
        ('{"q": [{"id": "\\ud83d\\u0041"}]}', r"line 1, column 8 contains U\+D83D, half of a surr"),
        ('{"q": [{"id": 1, "\\uDE00": 2}]}', r"line 1, column 8 contains U\+DE00, half of a surr"),
        ('{"q\\ud83d": 1}', r"line 1, column 2 contains U\+D83D, half of a surrogate pair"),
    ],
)
def test_invalid_json_is_refused_with_its_position(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(MalformedFileError, match=message):
        ids(stream_member(write(tmp_path, text), "q"))


@pytest.mark.parametrize(
    ("read", "empty", "expected"),
    [(stream_list, "[]", "a list of objects"), (stream_object, "{}", "an object of objects")],
)
def test_an_empty_value_or_one_of_another_type_is_refused(
    tmp_path: Path, read: Callable[[Path], Iterator[object]], empty: str, expected: str
) -> None:
    for text in (empty, "7"):
        with pytest.raises(MalformedFileError, match=f"expected {expected}"):
            list(read(write(tmp_path, text)))


def test_a_damaged_record_is_found_without_reading_the_rest_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    with file.open("w") as stream:
        stream.write('[{"id": 1}, {"id": nope},')
        stream.writelines(itertools.repeat('{"id": 1},', 1_000_000))
    tracemalloc.start()
    with pytest.raises(MalformedFileError, match="line 1, column 20"):
        ids(stream_list(file))
    assert tracemalloc.get_traced_memory()[1] < 4 * json_stream.CHUNK_BYTES
    tracemalloc.stop()


def test_memory_depends_on_the_record_and_not_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    record = '{"id": 1, "text": "' + 5000 * "x" + '"}'
    with file.open("w") as stream:
        stream.write('{"skipped": [' + record)
        stream.writelines(itertools.repeat("," + record, 4000))
        stream.write('], "q": [' + record)
        stream.writelines(itertools.repeat("," + record, 4000))
        stream.write("]}")
    assert file.stat().st_size > 40_000_000
    tracemalloc.start()
    assert sum(1 for _ in stream_member(file, "q")) == 4001
    assert tracemalloc.get_traced_memory()[1] < 5 * json_stream.CHUNK_BYTES
    tracemalloc.stop()


@pytest.mark.usefixtures("chunk")
def test_a_record_larger_than_a_chunk_is_read_whole(tmp_path: Path) -> None:
    long = {"id": 1, "text": 3000 * "é"}
    (record,) = stream_list(write(tmp_path, json.dumps([long], ensure_ascii=False)))
    assert record._members == long


def test_an_endless_value_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 64)
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARACTERS", 1000)
    with pytest.raises(MalformedFileError, match=r"line 1, column 3 .a value of more than 1000"):
        ids(stream_list(write(tmp_path, '[ {"id": "' + 5000 * "x" + '"}]')))


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 5000, "-1", "1.5"])
def test_an_integer_has_at_most_eighteen_digits(digits: str) -> None:
    record = JsonRecord({"image_id": digits}, Path("f.json"))
    with pytest.raises(MalformedFileError, match=r"image_id is .*, expected a number of at m"):
        record.integer("image_id")


def test_a_file_name_is_used_as_written() -> None:
    record = JsonRecord({"file": " a.jpg ", "blank": "  ", "number": 7}, Path("f.json"))
    assert record.file_name("file") == " a.jpg "
    for name in ("blank", "number"):
        with pytest.raises(MalformedFileError, match=f"{name} is .*, expected a string"):
            record.file_name(name)
