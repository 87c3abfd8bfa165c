"""How fast do the readers gather random rows, compared with an array in memory?

    OMP_NUM_THREADS=1 python -m bench.gather

The readers are used as in training, through `stream`. The steady state is timed, after buffers and
read-ahead are filled. The reference is `numpy.take(out=, mode="clip")` on one array in memory.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import h5py
import numpy as np
import torch
import typer
import zarr

from bench.support.scratch_stores import WIDTH, make_store, row_numbers, scratch, scratch_spec
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    Samples,
    Stopwatch,
    Variant,
    compare,
    interleave,
    ratios,
)
from epalm.cache.formats.store_format import Features
from epalm.cache.readers.disk_readers import READ_AHEAD
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import ReadPlan, StoreReader
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.store import Store

REFERENCE = "numpy take in memory"

TARGETS = {
    "ram": {64: 0.85, 512: 0.9, 4096: 0.9},
    "mapped zarr, pages untouched": {64: 0.2, 512: 0.3, 4096: 0.45},
    "mapped hdf5, pages untouched": {64: 0.2, 512: 0.3, 4096: 0.45},
}
"""Variant -> batch size -> smallest acceptable ratio to the reference."""

ZARR_TIMES, ZARR_BATCH = 100, 512
"""Smallest acceptable ratio of the memory reader to zarr's own indexing, at this batch size."""

WARM_BATCHES = 2
"""Batches read before the clock starts, to allocate both buffers and fill the read-ahead."""

LIBRARY_ROWS = 128
"""Number of rows, rounded up to a batch, for the libraries' own indexing, which is slow."""


@dataclass(frozen=True)
class Bench:
    """The same features in stores of both formats and in memory.

    Attributes:
        stores: format -> store.
        array: (N, L, D) all features.
        gathered: rows per sample, rounded up to batches.
    """

    stores: dict[str, Store]
    array: Features
    gathered: int

    def variants(self, batch_size: int) -> dict[str, Variant]:
        """All variants for one batch size."""
        stores = self.stores
        ram = open_reader(stores["zarr"], reader="ram", budget=self.array.nbytes)
        variants = {
            REFERENCE: self._array_variant(batch_size),
            "torch index_select": self._torch_variant(batch_size),
            "ram": self._reader_variant(lambda: ram, batch_size),
        }
        for name, store in stores.items():
            variants |= self._file_variants(name, store, batch_size)
        array = zarr.open_group(stores["zarr"].location, mode="r")["cls"]
        variants["zarr oindex"] = self._library_variant(
            lambda rows: array.oindex[rows],  # type: ignore[union-attr]
            batch_size,
        )
        variants["h5py, sorted"] = self._library_variant(self._h5py_rows, batch_size)
        return variants

    def _file_variants(self, name: str, store: Store, batch_size: int) -> dict[str, Variant]:
        touched = open_reader(store, reader="mapped")
        touch(touched)
        pread = open_reader(store, reader="pread")

        def fresh() -> StoreReader:
            return open_reader(store, reader="mapped")

        return {
            f"mapped {name}, pages untouched": self._reader_variant(fresh, batch_size),
            f"mapped {name}, pages touched": self._reader_variant(lambda: touched, batch_size),
            f"pread {name}": self._reader_variant(lambda: pread, batch_size),
        }

    def _rows(self, number: int, count: int) -> Rows:
        return np.random.default_rng(number).integers(0, len(self.array), count)

    def _batches(self, batch_size: int) -> int:
        return -(-self.gathered // batch_size)

    def _array_variant(self, batch_size: int) -> Variant:
        out = np.empty((batch_size, *self.array.shape[1:]), self.array.dtype)

        def run(number: int) -> Sample:
            count = self._batches(batch_size)
            parts = np.split(self._rows(number, count * batch_size), count)
            self.array.take(parts[-1], axis=0, out=out, mode="clip")
            with Stopwatch() as stopwatch:
                for rows in parts:
                    self.array.take(rows, axis=0, out=out, mode="clip")
            check(out, parts[-1])
            return stopwatch.sample(count * batch_size)

        return run

    def _torch_variant(self, batch_size: int) -> Variant:
        array = torch.from_numpy(self.array)
        out = torch.empty((batch_size, *array.shape[1:]), dtype=array.dtype)

        def run(number: int) -> Sample:
            count = self._batches(batch_size)
            rows = torch.from_numpy(self._rows(number, count * batch_size))
            parts = rows.split(batch_size)
            torch.index_select(array, 0, parts[-1], out=out)
            with Stopwatch() as stopwatch:
                for part in parts:
                    torch.index_select(array, 0, part, out=out)
            check(out.numpy(), parts[-1].numpy())
            return stopwatch.sample(count * batch_size)

        return run

    def _reader_variant(self, reader: Callable[[], StoreReader], batch_size: int) -> Variant:
        def run(number: int) -> Sample:
            count = self._batches(batch_size)
            rows = self._rows(number, (WARM_BATCHES + count + READ_AHEAD + 1) * batch_size)
            plan = ReadPlan(rows, np.zeros_like(rows), np.array([len(rows)]))
            with closing(reader().stream(plan, batch_size)) as batches:  # type: ignore[type-var]
                for _ in range(WARM_BATCHES):
                    next(batches)
                with Stopwatch() as stopwatch:
                    for _ in range(count):
                        tokens = next(batches)
                end = (WARM_BATCHES + count) * batch_size
                check(tokens, rows[end - batch_size : end])
            return stopwatch.sample(count * batch_size)

        return run

    def _library_variant(self, gather: Callable[[Rows], Any], batch_size: int) -> Variant:
        def run(number: int) -> Sample:
            count = -(-LIBRARY_ROWS // batch_size)
            rows = np.unique(self._rows(number, count * batch_size))
            parts = np.array_split(rows, count)
            with Stopwatch() as stopwatch:
                for part in parts:
                    features = gather(part)
            check(features[:, 0], parts[-1])
            return stopwatch.sample(len(rows))

        return run

    def _h5py_rows(self, rows: Rows) -> Any:  # noqa: ANN401 - h5py has no types
        with h5py.File(self.stores["hdf5"].location) as file:
            features: Any = file["cls"]
            return features[rows]


def check(tokens: Features, rows: Rows) -> None:
    """Check that a variant gathered the requested rows.

    Raises:
        RuntimeError: the (B, L, D) tokens are not those of the (B,) rows.
    """
    if not np.array_equal(row_numbers(tokens), rows):
        raise RuntimeError("a variant gathered the wrong rows")


def touch(reader: StoreReader) -> None:
    """Read every row once, to map all pages."""
    rows = np.arange(reader.spec.count)
    for _ in reader.stream(ReadPlan(rows, np.zeros_like(rows), np.array([len(rows)])), 4096):
        pass


def measure(bench: Bench, batch_sizes: Sequence[int], rounds: int) -> list[Line]:
    """Result lines of all batch sizes."""
    lines = []
    for batch_size in batch_sizes:
        samples = interleave(bench.variants(batch_size), rounds, seed=batch_size)
        targets = {
            name: ratios[batch_size] for name, ratios in TARGETS.items() if batch_size in ratios
        }
        for line in compare(samples, reference=REFERENCE, unit="rows/s", targets=targets):
            lines.append(Line(**{**vars(line), "what": f"{batch_size}: {line.what}"}))
        lines.append(times_line(samples, batch_size))
    return lines


def times_line(samples: Samples, batch_size: int) -> Line:
    """Ratio of the memory reader to zarr's own indexing."""
    times = ratios(samples["ram"], samples["zarr oindex"])
    what = f"{batch_size}: ram / zarr oindex"
    if batch_size != ZARR_BATCH:
        return Line(what, times.median, "times")
    target, met = f">= {ZARR_TIMES}", times.median >= ZARR_TIMES
    return Line(what, times.median, "times", target=target, met=met)


def main(
    rows: Annotated[int, typer.Option(min=1)] = 123_287,
    width: int = WIDTH,
    batch_size: Annotated[list[int], typer.Option(min=1)] = [64, 512, 4096],  # noqa: B006
    gathered: Annotated[int, typer.Option(help="Rows per sample.", min=1)] = 65_536,
    rounds: Rounds = 9,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Compare all readers on random rows."""
    torch.set_num_threads(1)
    with scratch(folder) as place:
        spec = scratch_spec(rows, width=width)
        stores = {
            "zarr": make_store(place / "s.zarr", spec),
            "hdf5": make_store(place / "s.h5", spec),
        }
        array = np.empty(spec.shape, spec.dtype)
        for shard in range(spec.shards):
            part = spec.rows_of(shard)
            stores["zarr"].read_shard(shard, array[part.start : part.stop])
        lines = measure(Bench(stores, array[:, 0], gathered), batch_size, rounds)
    Result(f"Gathering of {rows:,} x 6 x {width} float16", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
