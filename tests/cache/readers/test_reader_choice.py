"""Which reader is chosen, and how much memory it may use."""

from dataclasses import replace

import pytest

from epalm.cache.readers.epoch_order import ShuffleSpec
from epalm.cache.readers.reader_choice import (
    LOCAL_READERS,
    TRAIN_READERS,
    Budget,
    ReaderChoice,
    ReadRequirements,
    choose_reader,
    fit_window,
    ram_budget,
)
from epalm.errors import UsageError
from epalm.system_memory import free_memory

GB = 10**9
COCO = ReadRequirements(nbytes=1_136_213_000, view_bytes=9216, blocks=7706, batch_size=64)
CC3M = ReadRequirements(nbytes=27 * GB, view_bytes=9216, blocks=183_106, batch_size=64)


def choose(
    reader: str,
    requirements: ReadRequirements,
    *,
    ram: int,
    gpu: int | None = None,
    order: ShuffleSpec | None = None,
) -> ReaderChoice:
    return choose_reader(reader, requirements, Budget(ram, gpu), readers=TRAIN_READERS, order=order)


@pytest.mark.parametrize(
    ("requirements", "ram", "gpu", "reader"),
    [
        (COCO, 11 * GB, 30 * GB, "gpu"),
        (COCO, 11 * GB, GB, "ram"),
        (COCO, 11 * GB, None, "ram"),
        (CC3M, 11 * GB, GB, "stream"),
        (CC3M, 30 * GB, None, "ram"),
    ],
)
def test_the_fastest_reader_that_fits_is_chosen(
    requirements: ReadRequirements, ram: int, gpu: int | None, reader: str
) -> None:
    chosen = choose("auto", requirements, ram=ram, gpu=gpu)
    assert chosen.reader == reader
    assert (chosen.order.kind == "blocks") == (reader == "stream")


def test_the_summary_explains_the_choice() -> None:
    assert choose("auto", COCO, ram=11 * GB).summary == (
        "reader: ram, 1.14 GB of features, up to 11 GB allowed"
    )
    assert choose("auto", CC3M, ram=11 * GB).summary == (
        "reader: stream, 27 GB of features, up to 11 GB allowed, pools of 1280 blocks, "
        "batch variance at most 1.05x"
    )
    summary = choose("auto", CC3M, ram=32 * 10**6).summary
    assert "pools of 104 blocks, batch variance at most 1.57x (at most 1.2x with 9" in summary


def test_more_memory_than_needed_does_not_change_the_order() -> None:
    orders = {choose("stream", CC3M, ram=ram * GB).order for ram in (1, 10, 100)}
    assert orders == {ShuffleSpec("blocks", 1280)}


def test_a_resumed_run_keeps_its_order() -> None:
    order = ShuffleSpec("blocks", 100)
    assert choose("auto", CC3M, ram=100 * GB, order=order) == ReaderChoice(
        "ram",
        order,
        "reader: ram, 27 GB of features, up to 100 GB allowed, pools of 100 blocks, batch variance "
        "at most 1.59x (at most 1.2x with 94.4 MB)",
    )
    assert choose("auto", CC3M, ram=GB, order=order).reader == "stream"
    assert choose("auto", CC3M, ram=10**6, order=order).reader == "pread"
    assert choose("auto", CC3M, ram=GB, order=ShuffleSpec()).reader == "pread"


@pytest.mark.parametrize(
    ("reader", "order", "words"),
    [
        ("gpu", None, "gpu cannot work: training runs on the CPU"),
        ("ram", None, "ram cannot work: the features take 27 GB, 11 GB of memory are available"),
        ("stream", ShuffleSpec(), "stream cannot work: the run began with a uniform order"),
        ("stream", ShuffleSpec("blocks", 50_000), "two pools take 14.7 GB, 11 GB are available"),
        ("mmap", None, "'mmap' is unknown; known are auto, gpu, ram, mapped, stream, pread"),
    ],
)
def test_a_reader_that_cannot_work_is_refused(
    reader: str, order: ShuffleSpec | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        choose(reader, CC3M, ram=11 * GB, order=order)


def test_a_gpu_with_too_little_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="take 27 GB, 20 GB of GPU memory are available"):
        choose("gpu", CC3M, ram=GB, gpu=20 * GB)


@pytest.mark.parametrize("reader", ["mapped", "pread"])
def test_a_reader_can_be_chosen_by_name(reader: str) -> None:
    chosen = choose(reader, CC3M, ram=GB)
    assert (chosen.reader, chosen.order) == (reader, ShuffleSpec())


def test_evaluation_reads_single_rows_if_the_features_do_not_fit() -> None:
    chosen = choose_reader("auto", CC3M, Budget(GB), readers=LOCAL_READERS)
    assert chosen.reader == "pread"


def test_features_may_use_half_of_the_free_memory_or_all_for_reader_ram() -> None:
    assert 0 < ram_budget("auto") < 0.6 * free_memory() < ram_budget("ram")


@pytest.mark.parametrize(
    ("shard_bytes", "shards", "copies", "window"),
    [
        (302 * 10**6, 3052, None, 211),  # a hundred million rows of 6 x 768
        (302 * 10**6, 100, None, 0),
        (302 * 10**6, 3052, 20 * GB, 33),
        (302 * 10**6, 3052, 1, 1),
        (302 * 10**6, 33, 20 * GB, 0),
    ],
)
def test_a_window_is_checked_in_a_minute_and_two_fit_into_the_local_cache(
    shard_bytes: int, shards: int, copies: int | None, window: int
) -> None:
    assert fit_window(shard_bytes, shards, copies) == window


def test_a_store_with_windows_is_shuffled_within_them() -> None:
    large = replace(CC3M, window_shards=2, shard_blocks=512)
    chosen = choose("auto", large, ram=11 * GB)
    assert chosen.order == ShuffleSpec("blocks", 1024, 2, 512)
    assert "windows of 2 shards, pools of 1024 blocks, batch variance at most" in chosen.summary
    assert choose("auto", large, ram=30 * GB).order == ShuffleSpec()
