"""Read features from the shard files when they are needed.

A shard is compared with its commit record once, before its first row is served. CRC-32C is faster
than any disk, so this costs one sequential read of the shards in use.
"""

import itertools
import math
import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import ReadPlan, batch_buffers, batches_of
from epalm.cache.storage.regular_file import open_regular
from epalm.cache.store import Store
from epalm.errors import CorruptShardError, StoreError

READ_THREADS = 16
"""Reads in flight; on a cold disk random rows are read 10 times faster than by one thread."""

OPEN_FILES = 256
"""Files kept open; others are opened for each read, since the default limit is 1024 per process."""

OPEN_TRIES = 5
"""Attempts to open a shard whose file is replaced or deleted meanwhile."""

READ_AHEAD = 2
"""Batches read ahead while one is in use."""


class ShardFiles:
    """The shard files of a store, read by view index (row x V + view)."""

    def __init__(self, store: Store) -> None:
        """Open no file yet.

        Args:
            store: a finished store; remote shards are copied when they are first needed.
        """
        self.store = store
        self.view_bytes = store.spec.row_bytes // store.spec.views
        self._checked: dict[int, tuple[int, ...]] = {}
        self._lock = threading.Lock()
        self._check_locks = [threading.Lock() for _ in range(READ_THREADS)]
        self._open: dict[int, tuple[int, int]] = {}
        weakref.finalize(self, _close, self._open)

    def check(self, rows: Rows) -> None:
        """Compare the shards of these rows with their commit records, each shard only once.

        Raises:
            CorruptShardError: names the file and what differs.
        """
        for shard in np.unique(rows // self.store.spec.shard_rows).tolist():
            self._check_once(shard)

    def read(self, first: int, into: memoryview) -> None:
        """Read consecutive views of one shard, which is checked before its first row; thread-safe.

        Args:
            first: index of the first view.
            into: writable memory for a whole number of views.

        Raises:
            CorruptShardError: the file differs from its commit record, or has become shorter.
        """
        spec = self.store.spec
        shard = first // (spec.views * spec.shard_rows)
        skipped = (first - spec.rows_of(shard).start * spec.views) * self.view_bytes
        self._check_once(shard)
        with self._lock:
            opened = self._open.get(shard)
            if opened is None and len(self._open) < OPEN_FILES:
                opened = self._open[shard] = self._open_at_random(shard)
        descriptor, start = opened or self._open_at_random(shard)
        try:
            count = os.preadv(descriptor, [into], start + skipped)
        finally:
            if opened is None:
                os.close(descriptor)
        if count != len(into):
            raise self.truncated(shard)

    def truncated(self, shard: int) -> CorruptShardError:
        """The error for a file that became shorter after it was checked."""
        return CorruptShardError(
            f"shard {shard} of {self.store.location} became shorter while it was read: run "
            f"`epalm-extract repair {self.store.location}`, then extract again"
        )

    def open(self, shard: int) -> tuple[int, int]:
        """(File descriptor, offset of the first row) of a checked shard; the caller closes it.

        A local copy of a remote shard may be deleted by another process that needs the space, and a
        growth may replace a file: the new one is checked then.

        Raises:
            CorruptShardError: the file is damaged.
            StoreError: the local copy is deleted again and again.
        """
        for _ in range(OPEN_TRIES):
            extent = self.store.extent(shard)
            with suppress(FileNotFoundError):
                descriptor = open_regular(extent.path)
                if _identity(os.fstat(descriptor)) == self._checked.get(shard):
                    return descriptor, extent.offset
                os.close(descriptor)
            self._check(shard)
        raise StoreError(
            f"shard {shard} of {self.store.location} was deleted from the local cache {OPEN_TRIES} "
            "times while it was opened: give a larger --local-cache-size"
        )

    def _open_at_random(self, shard: int) -> tuple[int, int]:
        """See `open`; without read-ahead, which would fetch MiBs per row."""
        descriptor, offset = self.open(shard)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return descriptor, offset

    def _check_once(self, shard: int) -> None:
        if shard not in self._checked:
            with self._check_locks[shard % len(self._check_locks)]:
                if shard not in self._checked:
                    self._check(shard)

    def _check(self, shard: int) -> None:
        """Compare a shard with its commit record, and remember which file that was."""
        self.store.check_shard(shard)
        with suppress(FileNotFoundError):
            self._checked[shard] = _identity(self.store.extent(shard).path.stat())


class PreadReader:
    """Reads rows in many threads; for rows scattered over a huge store."""

    def __init__(self, files: ShardFiles) -> None:
        self._files = files
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="epalm-pread")

    def take(self, rows: Rows, views: Rows, out: Features) -> None:
        """See `FeatureReader.take`."""
        for read in self._start(rows, views, out):
            read.result()

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Features]:
        """See `FeatureReader.stream`; the next batches are read while one is in use."""
        spec = self._files.store.spec
        ring = itertools.cycle(batch_buffers(spec, batch_size=batch_size, count=READ_AHEAD + 1))
        ahead: list[tuple[Features, list[Future[None]]]] = []
        try:
            for rows, views in batches_of(plan, batch_size):
                out = next(ring)[: len(rows)]
                ahead.append((out, self._start(rows, views, out)))
                if len(ahead) > READ_AHEAD:
                    yield _wait(*ahead.pop(0))
            while ahead:
                yield _wait(*ahead.pop(0))
        finally:
            for _, reads in ahead:
                for read in reads:
                    read.cancel()

    def _start(self, rows: Rows, views: Rows, out: Features) -> list["Future[None]"]:
        self._files.check(rows)
        indices = rows * self._files.store.spec.views + views
        rows_per_task = -(-len(rows) // READ_THREADS)
        return [
            self._threads.submit(self._read, indices[first : first + rows_per_task], out[first:])
            for first in range(0, len(rows), max(rows_per_task, 1))
        ]

    def _read(self, indices: Rows, out: Features) -> None:
        size = self._files.view_bytes
        raw = out.data.cast("B")
        for slot, index in enumerate(indices.tolist()):
            self._files.read(index, raw[slot * size : (slot + 1) * size])


@dataclass(frozen=True)
class _Map:
    """A memory-mapped shard.

    Attributes:
        features: (rows x V, L x D), in the page cache.
        file: the mapping; its `size` method returns the current size of the file.
        min_bytes: size that the file must have for `features` to be readable.
    """

    features: NDArray[np.floating]
    file: mmap.mmap
    min_bytes: int


class MappedReader:
    """Reads rows from memory-mapped files: fast from the page cache, slow on a cold disk.

    The check of a shard reads it completely, so a shard that fits into free memory is cached
    afterwards. If a mapped file is truncated, reading the lost pages kills the process (SIGBUS),
    which Python cannot catch. Each batch therefore first compares the size of its files. What
    remains are the microseconds while the batch is copied, and disks that fail to read.
    """

    def __init__(self, files: ShardFiles) -> None:
        self._files = files
        self._maps: dict[int, _Map] = {}
        self._width = math.prod(files.store.spec.row_shape[1:])

    def take(self, rows: Rows, views: Rows, out: Features) -> None:
        """See `FeatureReader.take`."""
        spec = self._files.store.spec
        shard_of, local = np.divmod(rows, spec.shard_rows)
        shards, indices = shard_of.tolist(), (local * spec.views + views).tolist()
        maps = {shard: self._mapped(shard) for shard in set(shards)}
        flat = out.reshape(len(rows), self._width)  # 1-d rows copy fastest
        for slot, (shard, index) in enumerate(zip(shards, indices, strict=True)):
            flat[slot] = maps[shard][index]

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Features]:
        """See `FeatureReader.stream`."""
        ring = itertools.cycle(
            batch_buffers(self._files.store.spec, batch_size=batch_size, count=2)
        )
        for (rows, views), buffer in zip(batches_of(plan, batch_size), ring, strict=False):
            out = buffer[: len(rows)]
            self.take(rows, views, out)
            yield out

    def _mapped(self, shard: int) -> NDArray[np.floating]:
        """The features of a shard, after a check that its file has not become shorter."""
        mapped = self._maps.get(shard)
        if mapped is None:
            mapped = self._maps[shard] = self._map(shard)
        if mapped.file.size() < mapped.min_bytes:
            raise self._files.truncated(shard)
        return mapped.features

    def _map(self, shard: int) -> _Map:
        spec = self._files.store.spec
        rows = spec.rows_of(shard)
        self._files.check(np.array([rows.start]))
        count = len(rows) * spec.views * self._width
        descriptor, offset = self._files.open(shard)
        min_bytes = offset + len(rows) * spec.row_bytes
        try:
            file = mmap.mmap(descriptor, min_bytes, access=mmap.ACCESS_READ)
        except ValueError:  # the file has become shorter since it was checked
            raise self._files.truncated(shard) from None
        finally:
            os.close(descriptor)
        features = np.frombuffer(file, spec.dtype, count, offset)
        return _Map(features.reshape(-1, self._width), file, min_bytes)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What differs between a file and one that replaces it; numbers of inodes are used again."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _close(opened: dict[int, tuple[int, int]]) -> None:
    for descriptor, _ in opened.values():
        os.close(descriptor)


def _wait(out: Features, reads: Sequence["Future[None]"]) -> Features:
    for read in reads:
        read.result()
    return out
