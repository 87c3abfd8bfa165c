"""Vectors that stay in the shard files and are read where they are asked for.

A shard's bytes are compared with its commit record once, before the first vector of it is served:
CRC-32C keeps up with any disk, so that this costs one sequential read of the shards in use.
"""

import itertools
import math
import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Tokens
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import ReadPlan, batches_of, buffers
from epalm.cache.storage.regular_file import open_regular
from epalm.cache.store import Store
from epalm.errors import CorruptShardError

READ_THREADS = 16
"""Reads in flight: random rows come 10 times faster than from one thread on a cold disk."""

OPEN_FILES = 256
"""Files kept open; those beyond are opened for each read, as processes may open 1024 by default."""

READ_AHEAD = 2
"""Batches fetched while one is in use."""


class ShardFiles:
    """The shard files of a store, read by vector number (row x V + view)."""

    def __init__(self, store: Store) -> None:
        """Open nothing yet.

        Args:
            store: finished; its shards are local files by the time they are asked for.
        """
        self.store = store
        self.vector_bytes = store.spec.row_bytes // store.spec.views
        self._checked: set[int] = set()
        self._lock = threading.Lock()
        self._open: dict[int, tuple[int, int]] = {}
        weakref.finalize(self, _close, self._open)

    def check(self, rows: Rows) -> None:
        """Compare the shards of these rows with their commit records, each shard once.

        Raises:
            CorruptShardError: names the file and what differs.
        """
        for shard in np.unique(rows // self.store.spec.shard_rows).tolist():
            if shard not in self._checked:
                self.store.check(shard)
                self._checked.add(shard)

    def read(self, first: int, into: memoryview) -> None:
        """Read consecutive vectors of one shard; safe in threads.

        Args:
            first: number of the first one.
            into: writeable bytes, as many as the vectors have.

        Raises:
            CorruptShardError: the file is shorter than its rows.
        """
        spec = self.store.spec
        shard = first // (spec.views * spec.shard_rows)
        skipped = (first - spec.rows_of(shard).start * spec.views) * self.vector_bytes
        with self._lock:
            kept = self._open.get(shard)
            if kept is None and len(self._open) < OPEN_FILES:
                kept = self._open[shard] = self._open_shard(shard)
        descriptor, start = kept or self._open_shard(shard)
        try:
            count = os.preadv(descriptor, [into], start + skipped)
        finally:
            if kept is None:
                os.close(descriptor)
        if count != len(into):
            raise self.shortened(shard)

    def shortened(self, shard: int) -> CorruptShardError:
        """What to raise for a file that lost bytes after it was checked."""
        return CorruptShardError(
            f"shard {shard} of {self.store.location} became shorter while it was read: run "
            f"`epalm-extract repair {self.store.location}`, then extract again"
        )

    def _open_shard(self, shard: int) -> tuple[int, int]:
        """(descriptor, offset of the first vector)."""
        extent = self.store.extent(shard)
        descriptor = open_regular(extent.path)
        if hasattr(os, "posix_fadvise"):  # no read-ahead: the kernel would fetch MiBs per row
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return descriptor, extent.offset


class PreadReader:
    """Any row at any time, by reads in many threads; for rows scattered over a huge store."""

    def __init__(self, files: ShardFiles) -> None:
        self._files = files
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="epalm-pread")

    def take(self, rows: Rows, views: Rows, out: Tokens) -> None:
        """See `Vectors.take`."""
        for part in self._start(rows, views, out):
            part.result()

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Tokens]:
        """See `Vectors.stream`; the next batches are being read while one is in use."""
        spec = self._files.store.spec
        ring = itertools.cycle(buffers(spec, batch_size=batch_size, count=READ_AHEAD + 1))
        self._files.check(plan.rows)
        ahead: list[tuple[Tokens, list[Future[None]]]] = []
        try:
            for rows, views in batches_of(plan, batch_size):
                out = next(ring)[: len(rows)]
                ahead.append((out, self._start(rows, views, out)))
                if len(ahead) > READ_AHEAD:
                    yield _wait(*ahead.pop(0))
            while ahead:
                yield _wait(*ahead.pop(0))
        finally:
            for _, parts in ahead:
                for part in parts:
                    part.cancel()

    def _start(self, rows: Rows, views: Rows, out: Tokens) -> list["Future[None]"]:
        self._files.check(rows)
        numbers = rows * self._files.store.spec.views + views
        share = -(-len(rows) // READ_THREADS)
        return [
            self._threads.submit(self._read, numbers[first : first + share], out[first:])
            for first in range(0, len(rows), max(share, 1))
        ]

    def _read(self, numbers: Rows, out: Tokens) -> None:
        size = self._files.vector_bytes
        raw = out.data.cast("B")
        for place, number in enumerate(numbers.tolist()):
            self._files.read(number, raw[place * size : (place + 1) * size])


@dataclass(frozen=True)
class _Map:
    """A mapped shard.

    Attributes:
        vectors: (rows x V, L x D), in the page cache.
        file: all of it, mapped; knows how large the file is now.
        wanted: bytes that it must have for `vectors` to be readable.
    """

    vectors: NDArray[np.floating]
    file: mmap.mmap
    wanted: int


class MappedReader:
    """Any row by the page cache: fast once the store has been read, slow on a cold disk.

    Checking a shard reads all of it, so that one which fits the free memory is warm from then on.
    The system kills a process that reads a mapped page which its file has no more (SIGBUS), and
    nothing in Python can answer that. So each batch first asks for the size of its files, which
    leaves the microseconds in which the batch is copied, and a disk that fails to read.
    """

    def __init__(self, files: ShardFiles) -> None:
        self._files = files
        self._maps: dict[int, _Map] = {}
        self._width = math.prod(files.store.spec.row_shape[1:])

    def take(self, rows: Rows, views: Rows, out: Tokens) -> None:
        """See `Vectors.take`."""
        spec = self._files.store.spec
        shards, local = np.divmod(rows, spec.shard_rows)
        found = shards.tolist()
        maps = {shard: self._mapped(shard) for shard in set(found)}
        flat = out.reshape(len(rows), self._width)  # 1-d rows copy fastest
        for place, (shard, number) in enumerate(
            zip(found, (local * spec.views + views).tolist(), strict=True)
        ):
            flat[place] = maps[shard][number]

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Tokens]:
        """See `Vectors.stream`."""
        self._files.check(plan.rows)
        ring = itertools.cycle(buffers(self._files.store.spec, batch_size=batch_size, count=2))
        for (rows, views), buffer in zip(batches_of(plan, batch_size), ring, strict=False):
            out = buffer[: len(rows)]
            self.take(rows, views, out)
            yield out

    def _mapped(self, shard: int) -> NDArray[np.floating]:
        """The vectors of a shard whose file is still as large as when it was mapped."""
        known = self._maps.get(shard)
        if known is None:
            known = self._maps[shard] = self._map(shard)
        if known.file.size() < known.wanted:
            raise self._files.shortened(shard)
        return known.vectors

    def _map(self, shard: int) -> _Map:
        spec = self._files.store.spec
        rows = spec.rows_of(shard)
        self._files.check(np.array([rows.start]))
        extent = self._files.store.extent(shard)
        count = len(rows) * spec.views * self._width
        wanted = extent.offset + len(rows) * spec.row_bytes
        descriptor = open_regular(extent.path)
        try:
            file = mmap.mmap(descriptor, wanted, access=mmap.ACCESS_READ)
        except ValueError:  # it has become shorter since it was checked
            raise self._files.shortened(shard) from None
        finally:
            os.close(descriptor)
        vectors = np.frombuffer(file, spec.dtype, count, extent.offset)
        return _Map(vectors.reshape(-1, self._width), file, wanted)


def _close(opened: dict[int, tuple[int, int]]) -> None:
    for descriptor, _ in opened.values():
        os.close(descriptor)


def _wait(out: Tokens, parts: Sequence["Future[None]"]) -> Tokens:
    for part in parts:
        part.result()
    return out
