"""Media arrive in order, whole or as their reason, with and without worker processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from epalm.errors import MediaError
from epalm.extract.loading import LoadedBatch, Request, load_batches
from epalm.tasks.records import MediaItem
from tests.extract.helpers import load_number, numbered

WORKERS = [0, pytest.param(2, marks=pytest.mark.slow)]


def requests(items: list[MediaItem], size: int) -> list[list[Request]]:
    every = [Request(row, 0, item) for row, item in enumerate(items)]
    return [every[start : start + size] for start in range(0, len(every), size)]


def loaded(items: list[MediaItem], *, size: int, workers: int) -> Iterator[LoadedBatch]:
    return load_batches(requests(items, size), load_number, workers=workers)


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_come_in_order_with_their_rows(workers: int) -> None:
    batches = list(loaded(numbered(10), size=4, workers=workers))
    assert [batch.rows for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [batch.media for batch in batches] == [4, 4, 2]
    values = torch.cat([batch.inputs for batch in batches if batch.inputs is not None])
    assert values.flatten().tolist() == [100.0 * number for number in range(10)]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_bad_medium_leaves_its_neighbours_alone(workers: int) -> None:
    first, second = loaded(numbered(6, broken=[1, 3, 4, 5]), size=3, workers=workers)
    assert first.rows == [0, 2]
    assert first.inputs is not None
    assert first.inputs.flatten().tolist() == [0.0, 200.0]
    assert first.errors == {"k1": "k1: broken on purpose"}
    assert second.rows == []
    assert second.inputs is None
    assert list(second.errors) == ["k3", "k4", "k5"]


def test_an_error_in_our_own_code_is_not_taken_for_a_bad_file() -> None:
    items = [MediaItem("a", Path("no number.png"))]
    with pytest.raises(ValueError, match="invalid literal"):
        list(loaded(items, size=1, workers=0))


def test_only_what_is_asked_for_is_decoded() -> None:
    decoded: list[str] = []

    def load(item: MediaItem, view: int) -> torch.Tensor:
        decoded.append(item.key)
        return torch.zeros(1)

    next(load_batches(requests(numbered(100), 2), load, workers=0))
    assert decoded == ["k0", "k1"]


@pytest.mark.slow
def test_a_dying_worker_ends_the_run_with_one_error_instead_of_stalling_it() -> None:
    items = [*numbered(3), MediaItem("k3", Path("killer.png"))]
    with pytest.raises(MediaError, match=r"a decoding process died .*--workers 0"):
        list(loaded(items, size=2, workers=1))
