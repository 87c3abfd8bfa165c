"""Which reader is taken, and what memory counts as free."""

import pytest

from epalm.cache.readers.epoch_order import ShuffleSpec
from epalm.cache.readers.reader_choice import (
    LOCAL_READERS,
    TRAIN_READERS,
    Budget,
    ReaderChoice,
    ReadRequirements,
    choose_reader,
    ram_budget,
)
from epalm.errors import UsageError
from epalm.system_memory import free_memory

GB = 10**9
COCO = ReadRequirements(nbytes=1_136_213_000, view_bytes=9216, blocks=7706, batch_size=64)
CC3M = ReadRequirements(nbytes=27 * GB, view_bytes=9216, blocks=183_106, batch_size=64)


def choose(
    asked: str,
    need: ReadRequirements,
    *,
    ram: int,
    gpu: int | None = None,
    order: ShuffleSpec | None = None,
) -> ReaderChoice:
    return choose_reader(asked, need, Budget(ram, gpu), readers=TRAIN_READERS, order=order)


@pytest.mark.parametrize(
    ("need", "ram", "gpu", "reader"),
    [
        (COCO, 11 * GB, 30 * GB, "gpu"),
        (COCO, 11 * GB, GB, "ram"),
        (COCO, 11 * GB, None, "ram"),
        (CC3M, 11 * GB, GB, "stream"),
        (CC3M, 30 * GB, None, "ram"),
    ],
)
def test_the_highest_rung_that_fits_is_taken(
    need: ReadRequirements, ram: int, gpu: int | None, reader: str
) -> None:
    chosen = choose("auto", need, ram=ram, gpu=gpu)
    assert chosen.reader == reader
    assert (chosen.order.kind == "blocks") == (reader == "stream")


def test_the_line_says_what_was_taken_and_why() -> None:
    assert choose("auto", COCO, ram=11 * GB).summary == (
        "reader: ram, 1.14 GB of features, up to 11 GB allowed"
    )
    assert choose("auto", CC3M, ram=11 * GB).summary == (
        "reader: stream, 27 GB of features, up to 11 GB allowed, pools of 1280 blocks, "
        "batch variance at most 1.05x"
    )
    tight = choose("auto", CC3M, ram=32 * 10**6).summary
    assert "pools of 104 blocks, batch variance at most 1.57x (at most 1.2x with 9" in tight


def test_memory_to_spare_changes_no_order() -> None:
    orders = {choose("stream", CC3M, ram=ram * GB).order for ram in (1, 10, 100)}
    assert orders == {ShuffleSpec("blocks", 1280)}


def test_a_run_keeps_the_order_it_began_with() -> None:
    begun = ShuffleSpec("blocks", 100)
    assert choose("auto", CC3M, ram=100 * GB, order=begun) == ReaderChoice(
        "ram",
        begun,
        "reader: ram, 27 GB of features, up to 100 GB allowed, pools of 100 blocks, batch variance "
        "at most 1.59x (at most 1.2x with 94.4 MB)",
    )
    assert choose("auto", CC3M, ram=GB, order=begun).reader == "stream"
    assert choose("auto", CC3M, ram=10**6, order=begun).reader == "pread"
    assert choose("auto", CC3M, ram=GB, order=ShuffleSpec()).reader == "pread"


@pytest.mark.parametrize(
    ("asked", "order", "words"),
    [
        ("gpu", None, "gpu cannot work: training runs on the CPU"),
        ("ram", None, "ram cannot work: the features take 27 GB, 11 GB of memory are available"),
        ("stream", ShuffleSpec(), "stream cannot work: the run began with a uniform order"),
        ("stream", ShuffleSpec("blocks", 50_000), "two pools take 14.7 GB, 11 GB are available"),
        ("mmap", None, "'mmap' is unknown; known are auto, gpu, ram, mapped, stream, pread"),
    ],
)
def test_a_reader_that_cannot_work_is_refused(
    asked: str, order: ShuffleSpec | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        choose(asked, CC3M, ram=11 * GB, order=order)


def test_a_gpu_without_room_is_refused() -> None:
    with pytest.raises(UsageError, match="take 27 GB, 20 GB of GPU memory are available"):
        choose("gpu", CC3M, ram=GB, gpu=20 * GB)


@pytest.mark.parametrize("asked", ["mapped", "pread"])
def test_a_reader_may_be_asked_for_by_name(asked: str) -> None:
    chosen = choose(asked, CC3M, ram=GB)
    assert (chosen.reader, chosen.order) == (asked, ShuffleSpec())


def test_evaluation_reads_single_rows_where_memory_is_short() -> None:
    chosen = choose_reader("auto", CC3M, Budget(GB), readers=LOCAL_READERS)
    assert chosen.reader == "pread"


def test_vectors_take_half_of_the_free_memory_unless_memory_is_asked_for() -> None:
    assert 0 < ram_budget("auto") < 0.6 * free_memory() < ram_budget("ram")
