"""CRC-32C checksums of the files of a store."""

from collections.abc import Iterable
from typing import TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Part: TypeAlias = "bytes | NDArray[np.uint8]"
"""Consecutive bytes of a file; arrays are one-dimensional."""

READ_BYTES = 1 << 24
"""Bytes per read while a checksum is computed (16 MiB)."""


def buffer_of(part: Part) -> bytes | memoryview:
    """The bytes of a part, without a copy, in a type that files take."""
    return part if isinstance(part, bytes) else part.data


def size_and_checksum(parts: Iterable[Part]) -> tuple[int, str]:
    """Total number of bytes and their CRC-32C, as eight hexadecimal digits."""
    size, checksum = 0, 0
    for part in parts:
        size += len(part)
        checksum = extend_crc32c(checksum, part)
    return size, f"{checksum:08x}"


def extend_crc32c(checksum: int, part: Part) -> int:
    """The CRC-32C of the bytes checksummed so far followed by `part`."""
    if isinstance(part, np.ndarray):
        part = part.view()
        part.flags.writeable = False  # google-crc32c accepts only read-only buffers
    extended: int = google_crc32c.extend(checksum, part)
    return extended
