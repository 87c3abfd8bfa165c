"""The media record of a shard: the state of its media files just before they were decoded.

It is a NumPy file in the store's private folder, media/00012.npy, one row per sample:

    path      bytes     path of the file, relative to the data root; absolute if outside it
    size      int64     size of the file in bytes; ABSENT or UNKNOWN if there is none
    mtime_ns  int64     modification time of the file, nanoseconds since 1970
    offset    int64     offset of the sample in the file, which may be a tar file
    nbytes    int64     number of bytes of the sample; TO_THE_END for the whole file
    sha256    32 bytes  hash of the sample; zeros if unreadable; only with --content-hash

If a file is replaced while it is decoded, the record has its earlier state, and the next check
finds the change.
"""

import hashlib
import io
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from epalm.errors import CorruptShardError

ABSENT = -1
"""Size of a file that did not exist, or was not a regular file."""

UNKNOWN = -2
"""Size of a file that was not examined, as in stores of earlier versions."""

TO_THE_END = -1
"""Number of bytes of a sample that is a whole file."""

NUMBERS = ("size", "mtime_ns", "offset", "nbytes")
"""The columns of `MediaRecord.numbers`."""

HASH_BYTES = 32

READ_BYTES = 1 << 20
"""Bytes per read while a hash is computed (1 MiB)."""

THREADS = 16
"""Files examined or hashed in parallel, to hide the latency of network file systems."""

FILES_PER_TASK = 1024
"""Files per thread task on a local disk, where starting a task costs more than one file."""

PROBED_FILES = 8
"""Files examined first to time the file system; also the files per thread task on a slow one."""

SLOW_SECONDS = 50e-6
"""Time per file above which a file system counts as slow; a local one takes 5 us."""


class MediaFile(NamedTuple):
    """The bytes of a sample in a file.

    Attributes:
        path: path to open.
        name: path to record: relative to the data root, or absolute.
        offset: offset of the first byte.
        nbytes: number of bytes; TO_THE_END for the whole file.
    """

    path: str
    name: str
    offset: int = 0
    nbytes: int = TO_THE_END


@dataclass(frozen=True)
class MediaRecord:
    """State of the files of some samples.

    Attributes:
        names: (rows,) path of each file, relative to the data root or absolute.
        numbers: (rows, 4) int64, the columns of `NUMBERS`.
        hashes: (rows, 32) uint8, SHA-256; None in stores without content hashes.
    """

    names: NDArray[np.object_]
    numbers: NDArray[np.int64]
    hashes: NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def unknown(cls, rows: int, *, hashed: bool) -> Self:
        """A record of samples whose files were not examined."""
        numbers = np.zeros((rows, len(NUMBERS)), np.int64)
        numbers[:, NUMBERS.index("size")] = UNKNOWN
        numbers[:, NUMBERS.index("nbytes")] = TO_THE_END
        hashes = np.zeros((rows, HASH_BYTES), np.uint8) if hashed else None
        return cls(np.full(rows, "", dtype=object), numbers, hashes)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(rows,) size of each file in bytes, ABSENT or UNKNOWN."""
        return self.numbers[:, NUMBERS.index("size")]

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "MediaRecord":
        """A record with some of the rows."""
        hashes = None if self.hashes is None else self.hashes[rows]
        return MediaRecord(self.names[rows], self.numbers[rows], hashes)

    def put(self, rows: Sequence[int] | NDArray[np.intp], other: "MediaRecord") -> None:
        """Replace some rows; their hashes become zeros if `other` has none."""
        self.names[rows] = other.names
        self.numbers[rows] = other.numbers
        if self.hashes is not None:
            self.hashes[rows] = 0 if other.hashes is None else other.hashes

    def files(self, root: str) -> list[MediaFile]:
        """The current files of the samples below the data root `root`."""
        ranges = self.numbers[:, 2:].tolist()
        return [
            MediaFile(os.path.join(root, name), name, *byte_range)  # noqa: PTH118
            for name, byte_range in zip(self.names, ranges, strict=True)
        ]

    def to_bytes(self) -> bytes:
        """Content of the NumPy file: equal records give equal bytes."""
        names = [os.fsencode(name) for name in self.names]
        longest = max(map(len, names), default=0)
        columns = [("path", f"S{max(longest, 1)}"), *((name, "<i8") for name in NUMBERS)]
        if self.hashes is not None:
            columns.append(("sha256", f"V{HASH_BYTES}"))
        table = np.zeros(len(names), dtype=columns)
        table["path"] = names
        for column, name in enumerate(NUMBERS):
            table[name] = self.numbers[:, column]
        if self.hashes is not None:
            table["sha256"] = self.hashes.view(f"V{HASH_BYTES}")[:, 0]
        file = io.BytesIO()
        np.save(file, table, allow_pickle=False)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, *, rows: int, where: str) -> Self:
        """Parse the content of the NumPy file.

        Args:
            data: the content.
            rows: expected number of rows.
            where: name of the file for the error message.

        Raises:
            CorruptShardError: it is not a media record with this number of rows.
        """
        try:
            table = np.load(io.BytesIO(data), allow_pickle=False)
            numbers = np.stack([table[name].astype(np.int64) for name in NUMBERS], axis=1)
            names = np.array([os.fsdecode(name) for name in table["path"].tolist()], dtype=object)
            hashes = None
            if "sha256" in table.dtype.names:
                packed = np.frombuffer(table["sha256"].tobytes(), np.uint8)
                hashes = packed.reshape(-1, HASH_BYTES).copy()
            if numbers.shape != (rows, len(NUMBERS)):
                raise ValueError(f"{len(names)} rows, wanted {rows}")
        except (ValueError, KeyError, IndexError, TypeError, EOFError) as error:
            raise CorruptShardError(
                f"{where} is not a media record ({error}): run `epalm-extract repair` on the "
                "store, then extract again"
            ) from error
        return cls(names, numbers, hashes)


def describe_files(files: Sequence[MediaFile], *, hashed: bool) -> MediaRecord:
    """Record the current state of files, and hash the samples if `hashed`, in several threads.

    The metadata are read before the content. A file that is replaced in between is later found to
    have changed, or to have the content that was hashed.
    """
    record = MediaRecord.unknown(len(files), hashed=hashed)
    record.names[:] = [file.name for file in files]
    record.numbers[:, :2] = stat_files(files)
    record.numbers[:, 2:] = np.array([file[2:] for file in files]).reshape(-1, 2)
    if record.hashes is not None:
        record.hashes[:] = hash_files(files, record.sizes)
    return record


def stat_files(files: Sequence[MediaFile]) -> NDArray[np.int64]:
    """(files, 2) size and modification time; ABSENT and 0 for what is not a regular file."""
    started = time.monotonic()
    results = [_stat_task(files[:PROBED_FILES])]
    slow = time.monotonic() - started > PROBED_FILES * SLOW_SECONDS
    size = PROBED_FILES if slow else FILES_PER_TASK
    tasks = [files[at : at + size] for at in range(PROBED_FILES, len(files), size)]
    if len(tasks) > 1:
        with ThreadPoolExecutor(THREADS) as pool:
            results += pool.map(_stat_task, tasks)
    else:
        results += map(_stat_task, tasks)
    return np.concatenate(results)


def hash_files(files: Sequence[MediaFile], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(files, 32) SHA-256 of each sample; zeros for files of size ABSENT or UNKNOWN."""
    hashes = np.zeros((len(files), HASH_BYTES), np.uint8)
    readable = np.flatnonzero(sizes >= 0).tolist()
    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(_hash, (files[row] for row in readable))
        for row, digest in zip(readable, digests, strict=True):
            hashes[row] = np.frombuffer(digest, np.uint8)
    return hashes


def _stat_task(files: Sequence[MediaFile]) -> NDArray[np.int64]:
    known: dict[str, tuple[int, int]] = {}  # the samples of a tar file share their path
    results = np.empty((len(files), 2), np.int64)
    for row, file in enumerate(files):
        if file.nbytes == TO_THE_END:
            results[row] = _stat(file.path)
        else:
            if file.path not in known:
                known[file.path] = _stat(file.path)
            results[row] = known[file.path]
    return results


def _stat(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116  # making a Path takes longer than the call
    except (OSError, ValueError):
        return ABSENT, 0
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (ABSENT, 0)


def _hash(file: MediaFile) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(file.path, "rb", buffering=0) as opened:  # noqa: PTH123
            if file.nbytes == TO_THE_END:
                return hashlib.file_digest(opened, "sha256").digest()
            opened.seek(file.offset)
            left = file.nbytes
            while left > 0 and (block := opened.read(min(READ_BYTES, left))):
                digest.update(block)
                left -= len(block)
    except (OSError, ValueError):
        return bytes(HASH_BYTES)
    return digest.digest()
