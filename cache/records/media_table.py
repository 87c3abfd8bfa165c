"""The media table of a shard: the state of its media files just before they were decoded.

It is a NumPy file in the store's private folder, media/00012.npy, one row per sample:

    path      bytes     path of the file, relative to the data root; absolute if outside it
    size      int64     size of the file in bytes; ABSENT or UNKNOWN if there is none
    mtime_ns  int64     modification time of the file, nanoseconds since 1970
    offset    int64     offset of the sample in the file, which may be a tar file
    nbytes    int64     number of bytes of the sample; TO_THE_END for the whole file
    sha256    32 bytes  hash of the sample; zeros if unreadable; only with --content-hash

If a file is replaced while it is decoded, the table has its earlier state, and the next check
finds the change.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from epalm.cache.records.file_state import (
    HASH_BYTES,
    TO_THE_END,
    UNKNOWN,
    MediaFile,
    hash_files,
    stat_files,
)
from epalm.errors import CorruptShardError

NUMBERS = ("size", "mtime_ns", "offset", "nbytes")
"""The columns of `MediaTable.numbers`."""


@dataclass(frozen=True)
class MediaTable:
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
        """A table of samples whose files were not examined."""
        numbers = np.zeros((rows, len(NUMBERS)), np.int64)
        numbers[:, NUMBERS.index("size")] = UNKNOWN
        numbers[:, NUMBERS.index("nbytes")] = TO_THE_END
        hashes = np.zeros((rows, HASH_BYTES), np.uint8) if hashed else None
        return cls(np.full(rows, "", dtype=object), numbers, hashes)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(rows,) size of each file in bytes, ABSENT or UNKNOWN."""
        return self.numbers[:, NUMBERS.index("size")]

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "MediaTable":
        """A table with some of the rows."""
        hashes = None if self.hashes is None else self.hashes[rows]
        return MediaTable(self.names[rows], self.numbers[rows], hashes)

    def put(self, rows: Sequence[int] | NDArray[np.intp], other: "MediaTable") -> None:
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
        """Content of the NumPy file: equal tables give equal bytes."""
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
            CorruptShardError: it is not a media table with this number of rows.
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
                raise ValueError(f"{len(names)} rows, expected {rows}")
        except (ValueError, KeyError, IndexError, TypeError, EOFError) as error:
            raise CorruptShardError(
                f"{where} is not a media table ({error}): run `epalm-extract repair` on the "
                "store, then extract again"
            ) from error
        return cls(names, numbers, hashes)


def describe_files(files: Sequence[MediaFile], *, hashed: bool) -> MediaTable:
    """Record the current state of files, and hash the samples if `hashed`, in several threads.

    The metadata are read before the content. A file that is replaced in between is later found to
    have changed, or to have the content that was hashed.
    """
    table = MediaTable.unknown(len(files), hashed=hashed)
    table.names[:] = [file.name for file in files]
    table.numbers[:, :2] = stat_files(files)
    table.numbers[:, 2:] = np.array([file[2:] for file in files]).reshape(-1, 2)
    if table.hashes is not None:
        table.hashes[:] = hash_files(files, table.sizes)
    return table
