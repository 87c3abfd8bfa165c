import random

import pytest

from epalm.cache.index.key_lines import encode_lines
from epalm.cache.index.vlen_keys import KeysChunk, encode_vlen

EQUAL = [f"{row // 100:05d}/{row:09d}.jpg" for row in range(5000)]


def expected(keys: list[str]) -> bytes:
    encoded = [key.encode("utf-8", "surrogatepass") for key in keys]
    return b"".join(len(key).to_bytes(4, "little") + key for key in encoded)


@pytest.mark.parametrize(
    "keys",
    [
        EQUAL,
        [""] * 3,
        ["abc", "a", "abcde", "abc"],  # four line feeds in the last column if read as a table
        ["abc", "abcdefghi", "abc"],
        ["äöü", "abc"],
        ['a"', "a\\", "abc"],
        [*EQUAL, "shorter", *EQUAL],
        [f"{'x' * (row % 40)}{row}" for row in range(5000)],
    ],
    ids=["equal", "empty", "multiple", "period", "letters", "escapes", "mixed", "lengths"],
)
def test_the_bytes_are_those_of_the_keys_one_by_one(keys: list[str]) -> None:
    assert encode_vlen(encode_lines(keys)) == expected(keys)


def test_random_short_keys() -> None:
    source = random.Random(0)
    for _ in range(300):
        keys = ["".join(source.choices('ab"ä', k=source.randrange(4))) for _ in range(4)]
        assert encode_vlen(encode_lines(keys)) == expected(keys)


def test_an_iteration_ends_when_it_is_stopped() -> None:
    blocks = [encode_lines(EQUAL[start : start + 1000]) for start in range(0, 5000, 1000)]
    chunk = KeysChunk(5000, blocks)
    assert b"".join(chunk.until(lambda: False)) == b"".join(chunk)
    parts = iter(chunk.until(iter([False, False, True]).__next__))
    assert [len(next(parts)) for _ in range(3)] == [4, 23_000, 23_000]
    with pytest.raises(InterruptedError):
        next(parts)
