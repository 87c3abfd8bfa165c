"""Small JSON files with a checksum: their exact bytes, and damage that is found."""

import json

import google_crc32c
import pytest

from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.errors import CorruptShardError

SORTED_BEFORE = {"a": [1, 2], "b": "é"}
"""A field whose name is before that of the checksum, so that the checksum is not first."""

SORTED_AFTER = {"rows": 3, "errors": {"y.jpg": "empty", "x.jpg": "truncated"}}


def test_the_text_is_sorted_and_has_the_checksum_of_the_other_fields() -> None:
    others = '{\n "errors": {\n  "x.jpg": "truncated",\n  "y.jpg": "empty"\n },\n "rows": 3\n}\n'
    checksum = f"{google_crc32c.value(others.encode()):08x}"
    text = others.replace("{\n", f'{{\n "crc32c": "{checksum}",\n', 1)
    assert dump_checksummed(SORTED_AFTER).decode() == text


@pytest.mark.parametrize("fields", [SORTED_BEFORE, SORTED_AFTER, {}])
def test_fields_are_read_as_they_were_written(fields: dict[str, object]) -> None:
    assert load_checksummed(dump_checksummed(fields), "it") == fields


@pytest.mark.parametrize("fields", [SORTED_BEFORE, SORTED_AFTER])
def test_every_changed_byte_is_found(fields: dict[str, object]) -> None:
    data = dump_checksummed(fields)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(CorruptShardError, match="it is damaged"):
            load_checksummed(bytes(changed), "it")


@pytest.mark.parametrize("fields", [SORTED_BEFORE, SORTED_AFTER])
def test_a_cut_file_and_one_without_a_checksum_are_damaged(fields: dict[str, object]) -> None:
    data = dump_checksummed(fields)
    plain = json.dumps(fields, sort_keys=True, indent=1).encode()
    for damaged in (b"", data[:-1], data[: len(data) // 2], data + b"\n", plain, b"[]", b"5"):
        with pytest.raises(CorruptShardError, match="it is damaged"):
            load_checksummed(damaged, "it")
