"""The media record of a shard: what the files of its samples were when they were encoded.

It is a NumPy file in the store's private folder, media/00012.npy, one row per sample:

    path      bytes     of the file, relative to the data root, or absolute if it is outside
    size      int64     bytes of the file; ABSENT if there was none, UNKNOWN if nobody looked
    mtime_ns  int64     its modification time, nanoseconds since 1970
    offset    int64     first byte of the sample in the file, which may be a tar file
    nbytes    int64     bytes of the sample; TO_THE_END if it is all of the file
    sha256    32 bytes  of the sample; zeros if it could not be read; only with --content-hash

Files are described before they are decoded. Should one be replaced meanwhile, the record has the
older description, and the next check finds the change.
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
"""Size of a file that was not there, or was no regular file."""

UNKNOWN = -2
"""Size of a file that nobody looked at, as in stores of earlier versions."""

TO_THE_END = -1
"""Number of bytes of a sample that is all of its file."""

NUMBERS = ("size", "mtime_ns", "offset", "nbytes")
"""The columns of `MediaRecord.numbers`."""

HASH_BYTES = 32

READ_BYTES = 1 << 20
"""Bytes per read while a hash is computed (1 MiB)."""

THREADS = 16
"""Files looked at or hashed at once: on network file systems each waits for an answer."""

FILES_PER_TASK = 1024
"""Files that a thread looks at in one go on a local disk, where starting it costs more."""

PROBED_FILES = 8
"""Files that tell whether the file system is slow; then a thread takes so many in one go."""

SLOW_SECONDS = 50e-6
"""A file system that takes longer for one file is slow; a local one takes 5 us."""


class MediaFile(NamedTuple):
    """Where the bytes of a sample are.

    Attributes:
        path: that can be opened.
        name: that is recorded: relative to the data root, or absolute.
        offset: of the first byte.
        nbytes: how many; TO_THE_END for all of the file.
    """

    path: str
    name: str
    offset: int = 0
    nbytes: int = TO_THE_END


@dataclass(frozen=True)
class MediaRecord:
    """The samples of a shard, or some of them.

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
        """The record of samples that nobody looked at."""
        numbers = np.zeros((rows, len(NUMBERS)), np.int64)
        numbers[:, NUMBERS.index("size")] = UNKNOWN
        numbers[:, NUMBERS.index("nbytes")] = TO_THE_END
        hashes = np.zeros((rows, HASH_BYTES), np.uint8) if hashed else None
        return cls(np.full(rows, "", dtype=object), numbers, hashes)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(rows,) bytes of each file, ABSENT or UNKNOWN."""
        return self.numbers[:, NUMBERS.index("size")]

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "MediaRecord":
        """The record of some of the rows."""
        hashes = None if self.hashes is None else self.hashes[rows]
        return MediaRecord(self.names[rows], self.numbers[rows], hashes)

    def put(self, rows: Sequence[int] | NDArray[np.intp], other: "MediaRecord") -> None:
        """Replace some rows; hashes are kept if both records have them."""
        self.names[rows] = other.names
        self.numbers[rows] = other.numbers
        if self.hashes is not None:
            self.hashes[rows] = 0 if other.hashes is None else other.hashes

    def files(self, root: str) -> list[MediaFile]:
        """Where the samples are if the data root is `root` now."""
        parts = self.numbers[:, 2:].tolist()
        return [
            MediaFile(os.path.join(root, name), name, *part)  # noqa: PTH118
            for name, part in zip(self.names, parts, strict=True)
        ]

    def to_bytes(self) -> bytes:
        """Content of the file: equal records give equal bytes."""
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
        """The record in a file; `where` names it in the error.

        Raises:
            CorruptShardError: it is no media record of so many rows.
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
                f"{where} is no media record ({error}): run `epalm-extract repair` on the store, "
                "then extract again"
            ) from error
        return cls(names, numbers, hashes)


def describe_files(files: Sequence[MediaFile], *, hashed: bool) -> MediaRecord:
    """Look at every file, and hash the samples if `hashed`, by several threads.

    The metadata are read before the content: whatever is replaced in between is found changed
    later, or is what the hash says.
    """
    described = MediaRecord.unknown(len(files), hashed=hashed)
    described.names[:] = [file.name for file in files]
    described.numbers[:, :2] = stat_files(files)
    described.numbers[:, 2:] = np.array([file[2:] for file in files]).reshape(-1, 2)
    if described.hashes is not None:
        described.hashes[:] = hash_files(files, described.sizes)
    return described


def stat_files(files: Sequence[MediaFile]) -> NDArray[np.int64]:
    """(files, 2) size and modification time of each; ABSENT and 0 if it is no regular file."""
    started = time.monotonic()
    found = [_stat_task(files[:PROBED_FILES])]
    slow = time.monotonic() - started > PROBED_FILES * SLOW_SECONDS
    size = PROBED_FILES if slow else FILES_PER_TASK
    tasks = [files[at : at + size] for at in range(PROBED_FILES, len(files), size)]
    if len(tasks) > 1:
        with ThreadPoolExecutor(THREADS) as pool:
            found += pool.map(_stat_task, tasks)
    else:
        found += map(_stat_task, tasks)
    return np.concatenate(found)


def hash_files(files: Sequence[MediaFile], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(files, 32) SHA-256 of each sample; zeros where the size says there is none to read."""
    hashes = np.zeros((len(files), HASH_BYTES), np.uint8)
    there = np.flatnonzero(sizes >= 0).tolist()
    with ThreadPoolExecutor(THREADS) as pool:
        for row, digest in zip(there, pool.map(_hash, (files[row] for row in there)), strict=True):
            hashes[row] = np.frombuffer(digest, np.uint8)
    return hashes


def _stat_task(files: Sequence[MediaFile]) -> NDArray[np.int64]:
    known: dict[str, tuple[int, int]] = {}  # the samples of a tar file share their path
    found = np.empty((len(files), 2), np.int64)
    for row, file in enumerate(files):
        if file.nbytes == TO_THE_END:
            found[row] = _stat(file.path)
        else:
            if file.path not in known:
                known[file.path] = _stat(file.path)
            found[row] = known[file.path]
    return found


def _stat(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116  # a Path each would take longer than the call
    except (OSError, ValueError):
        return ABSENT, 0
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (ABSENT, 0)


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
