"""The features of a shard in a local file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epalm.cache.storage.checksum import READ_BYTES, extend_crc32c
from epalm.cache.storage.regular_file import open_regular


@dataclass(frozen=True)
class FileExtent:
    """Position of a shard's features in a local file: (rows, V, L, D), C-contiguous.

    Attributes:
        path: the file.
        offset: number of bytes before the first row.
    """

    path: Path
    offset: int


def read_checked(extent: FileExtent, out: NDArray[np.uint8]) -> tuple[int, str]:
    """Fill `out` from a file and checksum the file in the same pass.

    Returns:
        Size and CRC-32C of the whole file; (-1, "") if it does not exist.
    """
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
