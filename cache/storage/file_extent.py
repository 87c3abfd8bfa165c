"""The vectors of a shard in a local file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epalm.cache.storage.regular_file import open_regular
from epalm.cache.storage.storage import READ_BYTES, extend_crc32c


@dataclass(frozen=True)
class FileExtent:
    """Where the vectors of a shard lie in a local file; (rows, V, L, D) follow, C-contiguous."""

    path: Path
    offset: int


def read_checked(extent: FileExtent, out: NDArray[np.uint8]) -> tuple[int, str]:
    """Fill `out` from a file; size and CRC-32C of all of the file, (-1, "") if there is none."""
    checksum = 0
    try:
        with open(open_regular(extent.path), "rb", buffering=0) as file:  # noqa: PTH123
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(extent.offset)
            checksum = extend_crc32c(checksum, head)
            filled = 0
            while filled < len(out):
                count = file.readinto(out[filled : filled + READ_BYTES].data)
                if not count:
                    break
                checksum = extend_crc32c(checksum, out[filled : filled + count])
                filled += count
            block = np.empty(READ_BYTES, dtype=np.uint8)
            while count := file.readinto(block.data):
                checksum = extend_crc32c(checksum, block[:count])
    except FileNotFoundError:
        return -1, ""
    return size, f"{checksum:08x}"
