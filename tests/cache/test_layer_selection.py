import hashlib
import json
from dataclasses import asdict

import pytest

from epalm.cache import spec as spec_module
from epalm.cache.layer_selection import parse_layers
from epalm.cache.spec import StoreSpec
from epalm.errors import UsageError
from epalm.untrusted.checked_json import build
from tests.cache.helpers import spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", (6, 7, 8, 11)),
        ("last-1", (11,)),
        ("last-3", (7, 8, 11)),
        ("8", (8,)),
        ("11,6", (6, 11)),
    ],
)
def test_layers_are_named_in_three_ways_and_come_oldest_first(
    text: str, expected: tuple[int, ...]
) -> None:
    assert parse_layers(text, (6, 7, 8, 11)) == expected


@pytest.mark.parametrize("text", ["", "six", "last-0", "last6", "1-3", "6,,7", "-1"])
def test_other_words_are_a_usage_error_that_says_the_three_ways(text: str) -> None:
    with pytest.raises(UsageError, match=r"wanted all, last-6, or numbers such as 0,5,11"):
        parse_layers(text, (6, 7))


@pytest.mark.parametrize(
    ("text", "found"), [("5,7", "no block 5, .* 6, 7"), ("last-3", "2 blocks")]
)
def test_blocks_that_are_not_there_are_named(text: str, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        parse_layers(text, (6, 7))


def test_a_store_of_all_tokens_has_their_vectors_in_its_rows_and_is_told_from_one_of_cls() -> None:
    cls, every = spec(), spec(positions=5)
    assert (cls.row_shape, every.row_shape) == ((1, 2, 4), (1, 10, 4))
    assert every.row_bytes == 5 * cls.row_bytes
    assert every.comparable().items() - cls.comparable().items() == {("positions", "5")}
    assert cls.digest(["a"]) != every.digest(["a"])


def test_a_spec_written_before_positions_were_counted_is_still_the_same_spec() -> None:
    fields = json.loads(json.dumps(asdict(spec())))
    del fields["positions"]
    assert build(StoreSpec, fields, "spec") == spec()
    assert "positions" not in spec().comparable()


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_the_digest_is_of_one_line_of_json_a_key_however_many_are_taken_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    keys = ("a.jpg", 'quoted " \\', "line\nbreak", "é \U0001f600", "[1, 2]")
    monkeypatch.setattr(spec_module, "DIGEST_KEYS", at_once)
    lines = [json.dumps(spec().comparable(), sort_keys=True), *map(json.dumps, keys)]
    wanted = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert spec().digest(keys) == spec().digest(list(keys)) == wanted
