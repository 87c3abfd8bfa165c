import numpy as np
import pytest

from epalm.cache.reader import BlindSource, MemoryReader
from epalm.cache.spec import StoreSpec
from epalm.errors import StoreError, UnknownKeyError

KEYS = [f"{row}.jpg" for row in range(20)]


@pytest.fixture
def source() -> MemoryReader:
    spec = StoreSpec("coco", "vit-b16", {}, layers=(0,), width=2, count=20, dtype="float32")
    tokens = np.arange(40, dtype=np.float32).reshape(20, 1, 1, 2)
    tokens[4] = np.nan
    return MemoryReader(spec, KEYS, tokens)


def rows(source: BlindSource | MemoryReader, keys: list[str]) -> list[int]:
    return [int(value) // 2 for value in source.read(keys)[:, 0, 0]]


def test_the_blind_control_answers_each_record_with_another_of_its_group(
    source: MemoryReader,
) -> None:
    train = [key for key in KEYS[:12] if key != "4.jpg"]
    blind = BlindSource(source, [KEYS[:12], KEYS[12:]], seed=0)
    found = rows(blind, train)
    assert sorted(found) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert all(other != int(key.split(".")[0]) for key, other in zip(train, found, strict=True))
    assert sorted(rows(blind, KEYS[12:])) == list(range(12, 20))


def test_the_blind_control_is_the_same_for_the_same_seed(source: MemoryReader) -> None:
    first, again, other = (rows(BlindSource(source, [KEYS], seed), KEYS[5:]) for seed in (0, 0, 1))
    assert first == again != other


def test_the_blind_control_knows_only_its_groups(source: MemoryReader) -> None:
    with pytest.raises(UnknownKeyError, match=r"'19.jpg' is in no group"):
        BlindSource(source, [KEYS[:12]], seed=0).read(["19.jpg"])


def test_a_view_the_store_lacks_is_refused(source: MemoryReader) -> None:
    with pytest.raises(StoreError, match=r"view 1 was asked, the store has views 0..0"):
        source.read(KEYS[:1], view=1)


def test_tokens_of_another_shape_are_refused(source: MemoryReader) -> None:
    with pytest.raises(StoreError, match="do not fit"):
        MemoryReader(source.spec, KEYS, np.zeros((19, 1, 1, 2), np.float32))
