"""The state of media files: size, modification time and hash, read in several threads."""

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ABSENT = -1
"""Size of a file that did not exist, or was not a regular file."""

UNKNOWN = -2
"""Size of a file that was not examined, as in stores of earlier versions."""

TO_THE_END = -1
"""Number of bytes of a sample that is a whole file."""

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
