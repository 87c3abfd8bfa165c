"""How long does it take to compare media files with the media tables of a store?

    python -m bench.media_check

The reference is one bare `os.stat` per file. Each file is checked several times, to simulate more
files.
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
    Stopwatch,
    Variant,
    compare,
    interleave,
)
from epalm.cache.maintenance import media_check
from epalm.cache.maintenance.media_check import MediaCheck
from epalm.cache.records.media_table import MediaTable, describe_files
from epalm.cache.spec import SHARD_ROWS
from epalm.extract.decoding.media_files import media_files
from epalm.tasks.types import MediaItem

REFERENCE = "os.stat"

Items = Sequence[MediaItem]


def make_items(folder: Path, count: int, passes: int) -> list[MediaItem]:
    """Create `count` empty files and list each of them `passes` times."""
    names = [f"COCO_train2014_{number:012d}.jpg" for number in range(count)]
    for name in names:
        (folder / name).touch()
    return [MediaItem(name, folder, name) for name in names] * passes


def shards_of(items: Items) -> Iterator[Items]:
    """The files of each shard."""
    return (items[start : start + SHARD_ROWS] for start in range(0, len(items), SHARD_ROWS))


def bare(items: Items) -> Variant:
    """Call `os.stat` on every file."""

    def run(_number: int) -> Sample:
        with Stopwatch() as stopwatch:
            for item in items:
                os.stat(f"{item.folder}/{item.name}")  # noqa: PTH116
        return stopwatch.sample(len(items))

    return run


def described(items: Items) -> Variant:
    """Make the media tables of all shards."""

    def run(_number: int) -> Sample:
        with Stopwatch() as stopwatch:
            for shard in shards_of(items):
                describe_files(media_files(shard, shard[0].folder), hashed=False).to_bytes()
        return stopwatch.sample(len(items))

    return run


def checked(items: Items) -> Variant:
    """Read the media tables of all shards and compare the files with them."""
    tables = [
        describe_files(media_files(shard, shard[0].folder), hashed=False).to_bytes()
        for shard in shards_of(items)
    ]

    def run(_number: int) -> Sample:
        result = MediaCheck()
        with Stopwatch() as stopwatch:
            for shard, data in zip(shards_of(items), tables, strict=True):
                recorded = MediaTable.from_bytes(data, rows=len(shard), where="memory")
                compared = media_check.compare_files(recorded, media_files(shard, shard[0].folder))
                result.add([item.key for item in shard], compared)
        if result.changed or result.checked != len(items):
            raise RuntimeError(f"{len(result.changed)} unchanged files are reported as changed")
        return stopwatch.sample(len(items))

    return run


def main(
    files: Annotated[int, typer.Option(help="Number of files on disk.", min=1)] = 200_000,
    passes: Annotated[int, typer.Option(help="Checks per file.", min=1)] = 5,
    rounds: Rounds = 3,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Compare recording and checking media files with bare `os.stat` calls."""
    with scratch(folder) as place:
        items = make_items(place, files, passes)
        variants = {"record": described(items), "compare": checked(items)}
        samples = interleave({REFERENCE: bare(items), **variants}, rounds)
    lines = compare(samples, reference=REFERENCE, unit="files/s", targets={})
    Result(f"Checking {len(items):,} media files", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
