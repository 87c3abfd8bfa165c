"""What does a sample index of 10^8 samples cost: to build, to open, to look keys up, to extract?

    OMP_NUM_THREADS=1 python -m bench.sample_index --folder /large/disk

The rates of the readers are those of real files: a JSONL manifest and tar files. The large index is
built from made-up tar files by the same builder. It takes 10 GB of disk, and the keys of the store
3 GB more; everything is deleted at the end. Times are CPU seconds unless it says wall.
"""

import io
import json as plain_json
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import Tensor

from bench.extraction_memory import FreeEncoder
from bench.manifests import FirstBatch
from bench.support.peak_memory import AnonymousPeak, max_resident_bytes, peak_memory_of
from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import Folder, JsonFile, Line, Result, at_most
from epalm.cache.index.index_builder import IndexBuilder, Unit
from epalm.cache.index.index_parts import BYTES, FileEntry, SampleBatch
from epalm.cache.index.sample_index import SampleIndex
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.plugins import TypedName

TAR_SAMPLES = 10_000
"""Samples of a tar file, as img2dataset writes them."""

UNIT_TARS = 50

LOOKED_UP = 512
"""Keys per lookup, about two batches."""

ROUNDS = 200
"""Lookups, of which the median is reported."""

MIN_LINES, MIN_MEMBERS = 150_000, 50_000
"""Required rates per second."""

MAX_BUILD_MB, MAX_WORKER_MB, MAX_SECONDS, MAX_LOOKUP_MS = 500.0, 1000.0, 20.0, 5.0
"""Limits of memory, of the time to the first sample, and of a lookup."""


class StoppingEncoder(FreeEncoder):
    """An encoder that stops the extraction at its first batch."""

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        """Accept the arguments of an encoder factory."""
        del name, settings
        super().__init__()

    def blocks(self, *arguments: object, **options: object) -> list[object]:  # type: ignore[override]
        """Raise FirstBatch."""
        del arguments, options
        raise FirstBatch


class NamedEncoder(FreeEncoder):
    """The encoder that takes no time, as a factory makes it."""

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        """Accept the arguments of an encoder factory."""
        del name, settings
        super().__init__()


class PacedEncoder(NamedEncoder):
    """An encoder that takes half a millisecond for an image, as a fast GPU does."""

    SECONDS = 0.0005

    def blocks(self, batch: Tensor, **options: Any) -> list[Tensor]:  # noqa: ANN401
        """The tokens of a batch."""
        time.sleep(self.SECONDS * len(batch))
        return super().blocks(batch, **options)


def key_of(row: int) -> str:
    """The key of a sample of the large index."""
    return f"{row // TAR_SAMPLES:05d}/{row:012d}.jpg"


def made_up_units(rows: int) -> list[Unit]:
    """Units of made-up tar files with this many samples."""
    tars = -(-rows // TAR_SAMPLES)
    return [
        Unit(f"tars from {first}", partial(_batches, first, min(first + UNIT_TARS, tars), rows))
        for first in range(0, tars, UNIT_TARS)
    ]


def _batches(first: int, last: int, rows: int) -> Iterator[SampleBatch]:
    for tar in range(first, last):
        samples = range(tar * TAR_SAMPLES, min((tar + 1) * TAR_SAMPLES, rows))
        offsets = range(512, 512 + 51_200 * len(samples), 51_200)
        entry = FileEntry(BYTES, f"{tar:05d}.tar", size=51_200 * TAR_SAMPLES, mtime_ns=tar)
        yield SampleBatch(entry, list(map(key_of, samples)), offsets, [50_000] * len(samples))


def build_made_up(folder: str, rows: int) -> dict[str, float]:
    """Build the large index."""
    started, began, before = time.process_time(), time.monotonic(), max_resident_bytes()
    labels = {"dataset": "made-up", "modality": "image", "tasks": "manifest"}
    index = IndexBuilder(Path(folder), made_up_units(rows), labels).build()
    if index is None or len(index) != rows:
        raise RuntimeError("the index is not complete")
    return _built(started, before) | {"wall": time.monotonic() - began}


def _built(started: float, before: int) -> dict[str, float]:
    """CPU seconds, and peak memory above that of the imports, which the command does not have."""
    return {"cpu": time.process_time() - started, "nbytes": max_resident_bytes() - before}


def build_files(data: str, folder: str) -> dict[str, float]:
    """Build the index of real files."""
    from epalm.extract.indexing.index_source import input_source
    from epalm.extract.indexing.input_files import find_input

    started, before = time.process_time(), max_resident_bytes()
    input_source(find_input(Path(data))).builder(Path(folder)).build()
    return _built(started, before)


def look_up(folder: str, rounds: int) -> dict[str, float]:
    """Open an index, and look random keys up, first unread and then warm."""
    began = time.monotonic()
    index = SampleIndex.open(folder)
    opened = time.monotonic() - began
    random = np.random.default_rng(0)
    asked = [random.integers(0, len(index), LOOKED_UP) for _ in range(rounds)]
    seconds = []
    for rows in [*asked, *asked]:
        keys = [key_of(row) for row in rows.tolist()]
        before = np.array([time.monotonic(), time.process_time()])
        found = index.find(keys)
        seconds.append(np.array([time.monotonic(), time.process_time()]) - before)
        if (found != rows).any():
            raise RuntimeError("a key was not found in its row")
    if index.find(["absent"]).tolist() != [-1]:
        raise RuntimeError("a key that does not exist was found")
    (first, _), (warm, cpu) = np.median([seconds[:rounds], seconds[rounds:]], axis=1).tolist()
    return {"open": opened, "first": first, "warm": warm, "cpu": cpu}


def extract_from(index: str, out: str, data: str, encoder: str, shard: str) -> dict[str, float]:
    """Extract from an index with an encoder of this module, up to its end or its first batch.

    Returns:
        Seconds from the command on, and peak of the memory without mapped files.
    """
    from epalm.extract.fill_store import fill_store
    from epalm.extract.indexing.index_items import index_media
    from epalm.extract.planning.extract_inputs import read_inputs
    from epalm.extract.planning.extract_options import ExtractOptions
    from epalm.extract.planning.process_shards import ProcessShard

    began = time.monotonic()
    media = index_media(SampleIndex.open(index), Path(data), allow_outside=False)
    options = ExtractOptions(
        encoder=TypedName(f"bench.sample_index:{encoder}"),
        dataset=data,
        out=out,
        device="cpu",
        workers=0,
        quiet=True,
    )
    with AnonymousPeak() as peak, suppress(FirstBatch):
        fill_store(read_inputs(options, process_shard=ProcessShard.parse(shard), media=media))
    used = {"wall": time.monotonic() - began, "cpu": time.process_time()}
    return used | {"anonymous": peak.nbytes}


def write_manifest(folder: Path, lines: int) -> None:
    """Write a JSONL manifest of captions."""
    folder.mkdir()
    with (folder / "train.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(lines):
            line = {"id": number, "media": key_of(number), "answers": ["a dog on green grass"]}
            stream.write(plain_json.dumps(line) + "\n")


def write_tars(folder: Path, samples: int) -> None:
    """Write tar files of small images and their captions."""
    folder.mkdir()
    for tar in range(-(-samples // TAR_SAMPLES)):
        with tarfile.open(folder / f"{tar:05d}.tar", "w") as archive:
            for row in range(tar * TAR_SAMPLES, min((tar + 1) * TAR_SAMPLES, samples)):
                for extension, nbytes in (("jpg", 900), ("txt", 60)):
                    member = tarfile.TarInfo(f"{row:012d}.{extension}")
                    member.size = nbytes
                    archive.addfile(member, io.BytesIO(bytes(nbytes)))


def file_lines(place: Path, lines: int, samples: int) -> list[Line]:
    """Result lines of the readers of real files."""
    write_manifest(place / "manifest", lines)
    write_tars(place / "tars", samples)
    results = []
    for name, members, least in (
        ("manifest", lines, MIN_LINES),
        ("tars", 2 * samples, MIN_MEMBERS),
    ):
        peak = peak_memory_of(
            "bench.sample_index:build_files", str(place / name), str(place / f"{name}.index")
        )
        rate, unit = members / peak.answer["cpu"], "lines/s" if name == "manifest" else "members/s"
        results += [
            Line(f"{name}: index built", rate, unit, target=f">= {least}", met=rate >= least),
            at_most(f"{name}: memory", peak.answer["nbytes"] / 1e6, "MB", limit=MAX_BUILD_MB),
        ]
    return results


def large_lines(place: Path, rows: int) -> list[Line]:
    """Result lines of the large index."""
    index, data, out = place / "large.index", place / "data", str(place / "s.zarr")
    built = peak_memory_of("bench.sample_index:build_made_up", str(index), rows)
    nbytes = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    data.mkdir()
    (data / "00000.tar").touch()
    found = peak_memory_of("bench.sample_index:look_up", str(index), ROUNDS)
    shards = f"0/{max(rows // 65_536, 1)}"
    runs = {
        name: peak_memory_of(
            "bench.sample_index:extract_from", str(index), out, str(data), encoder, shards
        )
        for name, encoder in (
            ("first batch, new store", "StoppingEncoder"),
            ("first batch, store present", "StoppingEncoder"),
            ("2,000 images/s", "PacedEncoder"),
        )
    }
    lines = [
        Line("built", built.answer["cpu"], "s"),
        Line("built, wall", built.answer["wall"], "s"),
        at_most("built, memory", built.answer["nbytes"] / 1e6, "MB", limit=MAX_BUILD_MB),
        Line("size", nbytes / 1e9, "GB"),
        Line("opened, wall", 1e3 * found.answer["open"], "ms"),
        Line(f"{LOOKED_UP} keys, unread, wall", 1e3 * found.answer["first"], "ms"),
        at_most(
            f"{LOOKED_UP} keys, warm, wall", 1e3 * found.answer["warm"], "ms", limit=MAX_LOOKUP_MS
        ),
        Line(f"{LOOKED_UP} keys, warm, CPU", 1e3 * found.answer["cpu"], "ms"),
    ]
    for name, peak in runs.items():
        if name.startswith("first"):
            wall = peak.answer["wall"]
            lines += [
                at_most(f"{name}, wall", wall, "s", limit=MAX_SECONDS),
                Line(f"{name}, CPU", peak.answer["cpu"], "s"),
            ]
        lines.append(at_most(f"{name}, memory", peak.nbytes / 1e6, "MB", limit=MAX_WORKER_MB))
        anonymous = peak.answer["anonymous"] / 1e6
        lines.append(Line(f"{name}, memory without mapped files", anonymous, "MB"))
    return [Line(f"{rows:,}: {one.what}", one.value, one.unit, target=one.target, met=one.met)
            for one in lines]  # fmt: skip


def main(
    rows: Annotated[int, typer.Option(min=1, help="Samples of the large index.")] = 100_000_000,
    lines: Annotated[int, typer.Option(min=1, help="Lines of the manifest.")] = 2_000_000,
    samples: Annotated[int, typer.Option(min=1, help="Samples in tar files.")] = 200_000,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Build indexes, and measure them."""
    with scratch(folder) as place:
        results = file_lines(place, lines, samples) + large_lines(place, rows)
    Result("what does a sample index cost?", results).publish(json)


if __name__ == "__main__":
    typer.run(main)
