"""Specs of stores: their shape, digest and number of shards."""

import hashlib
import json
from dataclasses import asdict

import pytest

from epalm.cache import spec as spec_module
from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.errors import StoreError
from epalm.untrusted.checked_json import build
from tests.cache.helpers import spec


def test_a_spec_with_all_tokens_differs_from_one_with_cls_in_shape_and_digest() -> None:
    cls, all_tokens = spec(), spec(positions=5)
    assert (cls.row_shape, all_tokens.row_shape) == ((1, 2, 4), (1, 10, 4))
    assert all_tokens.row_bytes == 5 * cls.row_bytes
    assert all_tokens.comparable().items() - cls.comparable().items() == {("positions", "5")}
    assert cls.digest(["a"]) != all_tokens.digest(["a"])


def test_a_spec_of_an_earlier_version_without_positions_equals_one_with_cls() -> None:
    fields = json.loads(json.dumps(asdict(spec())))
    del fields["positions"]
    assert build(StoreSpec, fields, "spec") == spec()
    assert "positions" not in spec().comparable()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_digest_covers_one_line_of_json_per_key_at_any_batch_size(
    monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    keys = ("a.jpg", 'quoted " \\', "line\nbreak", "é \U0001f600", "[1, 2]")
    monkeypatch.setattr(spec_module, "DIGEST_KEYS", batch_size)
    lines = [json.dumps(spec().comparable(), sort_keys=True), *map(json.dumps, keys)]
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert spec().digest(keys) == spec().digest(list(keys)) == expected


def test_a_small_store_has_few_shards_and_those_of_a_large_store_are_bounded() -> None:
    row = 6 * 768 * 2
    assert fit_shard_rows(123_287, row) == 8192
    assert fit_shard_rows(7000, row) == 896
    assert fit_shard_rows(300, row) == 320
    assert fit_shard_rows(1, row) == 64
    assert fit_shard_rows(400_000_000, row) == 32768
    for row_bytes in (8 * row, 197 * 768 * 2, 6 * 197 * 768 * 2, 5_000_000):
        assert 0 < fit_shard_rows(123_287, row_bytes) * row_bytes <= 320_000_000


@pytest.mark.parametrize(
    ("largest", "larger"),
    [
        ({"count": 10**10, "shard_rows": 4096}, {"count": 10**10 + 1, "shard_rows": 4096}),
        ({"count": 64 * 10**7}, {"count": 64 * 10**7 + 1}),
        ({"views": 10_000}, {"views": 10_001}),
        ({"positions": 10**6}, {"positions": 10**6 + 1}),
        ({"width": 1 << 16}, {"width": (1 << 16) + 1}),
        ({"layers": (0, 9999)}, {"layers": (0, 10_000)}),
        ({"layers": tuple(range(10_000))}, {"layers": (*range(10_000), 0)}),
        ({"shard_rows": 1 << 32}, {"shard_rows": (1 << 32) + 64}),
    ],
)
def test_the_largest_store_is_accepted_and_a_larger_one_is_refused(
    largest: dict[str, object], larger: dict[str, object]
) -> None:
    assert spec(**largest)
    with pytest.raises(StoreError, match=r"expected|beyond the limits"):
        spec(**larger)


def test_a_sample_too_large_for_a_chunk_in_a_shard_is_refused() -> None:
    with pytest.raises(StoreError, match=r"5\.0 MB.*--source-layers"):
        fit_shard_rows(100, 5_000_001)
