"""What does it cost to compare media files with what a store recorded of them?

    python -m bench.media_check

The reference is one bare `os.stat` per file. Each file is looked at several times, as if there were
so many more.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Result,
    Rounds,
    Sample,
    Variant,
    Watch,
    compare,
    interleave,
)
from epalm.cache import media_check
from epalm.cache.media_check import MediaCheck
from epalm.cache.records.media_record import MediaRecord, describe_files
from epalm.cache.spec import SHARD_ROWS
from epalm.extract.decoding.media_files import media_files
from epalm.tasks.types import MediaItem

REFERENCE = "os.stat"

Items = Sequence[MediaItem]


def make_items(folder: Path, count: int, passes: int) -> list[MediaItem]:
    """So many empty files, each as many times as there are passes."""
    names = [f"COCO_train2014_{number:012d}.jpg" for number in range(count)]
    for name in names:
        (folder / name).touch()
    return [MediaItem(name, folder, name) for name in names] * passes


def shards_of(items: Items) -> Iterator[Items]:
    """The files of each shard."""
    return (items[start : start + SHARD_ROWS] for start in range(0, len(items), SHARD_ROWS))


def bare(items: Items) -> Variant:
    """Look at every file."""

    def run(_number: int) -> Sample:
        with Watch() as watch:
            for item in items:
                os.stat(f"{item.folder}/{item.name}")  # noqa: PTH116
        return watch.sample(len(items))

    return run


def described(items: Items) -> Variant:
    """Make the media records of all shards."""

    def run(_number: int) -> Sample:
        with Watch() as watch:
            for shard in shards_of(items):
                describe_files(media_files(shard, shard[0].folder), hashed=False).to_bytes()
        return watch.sample(len(items))

    return run


def checked(items: Items) -> Variant:
    """Read the media records of all shards and compare."""
    records = [
        describe_files(media_files(shard, shard[0].folder), hashed=False).to_bytes()
        for shard in shards_of(items)
    ]

    def run(_number: int) -> Sample:
        found = MediaCheck()
        with Watch() as watch:
            for shard, data in zip(shards_of(items), records, strict=True):
                recorded = MediaRecord.from_bytes(data, rows=len(shard), where="memory")
                compared = media_check.compare_files(recorded, media_files(shard, shard[0].folder))
                found.add([item.key for item in shard], compared)
        if found.changed or found.checked != len(items):
            raise RuntimeError(f"files that nobody touched changed: {len(found.changed)}")
        return watch.sample(len(items))

    return run


def main(
    files: Annotated[int, typer.Option(help="Files on the disk.", min=1)] = 200_000,
    passes: Annotated[int, typer.Option(help="Times that each is looked at.", min=1)] = 5,
    rounds: Rounds = 3,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Record and compare media files."""
    with scratch(folder) as place:
        items = make_items(place, files, passes)
        variants = {"record": described(items), "compare": checked(items)}
        samples = interleave({REFERENCE: bare(items), **variants}, rounds)
    lines = compare(samples, reference=REFERENCE, unit="files/s", targets={})
    Result(f"Looking at {len(items):,} media files", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
