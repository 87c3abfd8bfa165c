"""How does the memory of an extraction grow with the number of samples?

    OMP_NUM_THREADS=1 python -m bench.extraction_memory

Each size runs in a new process, with an encoder of width 768 that returns constants and samples
that need no decoding. What remains is the list of samples, the keys of the store and two shards.
"""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from bench.support.peak_memory import max_resident_bytes, peak_memory_of
from bench.support.scratch_stores import LAYERS, WIDTH, scratch, scratch_keys, scratch_spec
from bench.support.timed_rounds import Folder, JsonFile, Line, Result, at_most
from epalm.cache.create_store import create_store
from epalm.cache.spec import fit_shard_rows
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from epalm.tasks.types import MediaItem, Modality

MAX_BYTES = 2_000_000_000

BATCH = 256


class FreeEncoder:
    """An encoder that returns constant tokens and takes no time."""

    name = "free"
    width = WIDTH
    depth = LAYERS
    positions = 1
    modality: Modality = "image"
    norm: nn.Module = nn.Identity()

    def __init__(self) -> None:
        self.load: Loader = load_nothing
        self._tokens = torch.ones(BATCH, 1, WIDTH)

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """(B, 1, 768) ones per block."""
        del positions
        return [self._tokens[: len(batch)]] * len(range(self.depth) if layers is None else layers)

    def fingerprint(self) -> dict[str, str]:
        """A constant fingerprint."""
        return {"tokens": "ones"}


_NOTHING = torch.zeros(1, dtype=torch.uint8)


def load_nothing(item: MediaItem, view: int) -> Tensor:
    """The same (1,) uint8 for every sample."""
    del item, view
    return _NOTHING


def extract_many(folder: str, number: int) -> dict[str, float]:
    """Extract `number` samples that do not exist; peak bytes after each phase, and seconds."""
    started = time.perf_counter()
    keys = scratch_keys(number)
    images = Path("/data/coco")
    items = [MediaItem(key, images, key) for key in keys]
    listed = max_resident_bytes()
    row_bytes = LAYERS * WIDTH * 2
    spec = scratch_spec(number, shard_rows=fit_shard_rows(number, row_bytes))
    store = create_store(Path(folder) / "s.zarr", spec, keys)
    created = max_resident_bytes()
    report = extract(FreeEncoder(), items, store, options=RunOptions(BATCH, workers=0, quiet=True))
    if (report.encoded, report.failed, report.missing) != (number, 0, 0):
        raise RuntimeError(f"the extraction is incomplete: {report}")
    seconds = time.perf_counter() - started
    return {"listed": listed, "created": created, "seconds": seconds}


def import_only() -> None:
    """Do nothing, to measure the memory of the imports."""


def main(
    number: Annotated[list[int], typer.Option(min=1)] = [100_000, 1_000_000],  # noqa: B006
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Measure peak memory for each number of samples."""
    imports = peak_memory_of("bench.extraction_memory:import_only").nbytes
    lines, peaks = [Line("imports alone", imports / 1e6, "MB")], []
    for samples in number:
        with scratch(folder) as place:
            peak = peak_memory_of("bench.extraction_memory:extract_many", str(place), samples)
        phases, name = peak.answer, f"{samples:,} samples"
        lines += [
            Line(f"{name}: listed", phases["listed"] / 1e6, "MB"),
            Line(f"{name}: store created", phases["created"] / 1e6, "MB"),
            at_most(f"{name}: extracted", peak.nbytes / 1e6, "MB", limit=MAX_BYTES / 1e6),
            Line(f"{name}: time", phases["seconds"], "s"),
        ]
        peaks.append((samples, peak.nbytes))
    for (fewer, less), (more, most) in pairwise(peaks):
        lines.append(Line("growth", (most - less) / (more - fewer), "bytes per sample"))
    Result("Memory of an extraction", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
