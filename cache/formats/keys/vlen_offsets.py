"""Find the keys in a chunk of Zarr's vlen-utf8 codec: a count, then length and bytes of each.

All lengths are little-endian uint32. Each key has to be read to find the next one, which takes a
minute for 10^8 keys in Python. NumPy finds the upper two bytes of all lengths at once instead: they
are zero for keys below 64 KiB, and UTF-8 text has no zero bytes but those of the character U+0000.
What was found counts only if each length leads to the next one, so it is the same as reading key
by key; where it does not, keys are read one by one.
"""

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 4

LENGTH_BYTES = 4

WINDOW_BYTES = 1 << 25
"""Bytes that are searched at a time (32 MiB)."""

STEPPED_KEYS = 1024
"""Keys that are read one by one before the search is tried again."""


def vlen_offsets(chunk: NDArray[np.uint8], count: int) -> NDArray[np.int64] | NDArray[np.uint32]:
    """(count + 1,) offset of the first byte of each key, and that of a key after the last one.

    The type is uint32 if that suffices.

    Args:
        chunk: the whole chunk.
        count: number of keys.

    Raises:
        ValueError: the chunk does not consist of this number of keys.
    """
    offsets: NDArray[np.int64] | NDArray[np.uint32] = np.empty(count + 1, np.int64)
    if len(chunk) + LENGTH_BYTES < 1 << 32:
        offsets = np.empty(count + 1, np.uint32)
    row, position = 0, HEADER_BYTES
    while row < count:
        found = _search(chunk[position : position + WINDOW_BYTES])[: count - row]
        if not len(found):
            found = _step(chunk, position, min(STEPPED_KEYS, count - row))
        offsets[row : row + len(found)] = found + (position + LENGTH_BYTES)
        row += len(found)
        position += int(found[-1]) + LENGTH_BYTES + _length(chunk, position + int(found[-1]))
        if position > len(chunk):
            break
    if row < count or position != len(chunk):
        raise ValueError(f"the chunk of keys ends before or after its {count} strings")
    offsets[count] = position + LENGTH_BYTES
    return offsets


def _search(window: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the lengths from the beginning of a window on; few or none if they are not sure.

    The last ones are left out, since nothing in the window confirms them.
    """
    zero = window == 0
    pairs = np.flatnonzero(zero[2:-1] & zero[3:])
    ends = np.diff(pairs, append=-1) != 1  # of a run of zero bytes, the last two
    places = pairs[ends]
    if len(places) < 2 or places[0] != 0:
        return np.empty(0, np.int64)
    lengths = window[places].astype(np.int64) + (window[places + 1].astype(np.int64) << 8)
    lead = places[:-1] + LENGTH_BYTES + lengths[:-1] == places[1:]
    sure = len(lead) if lead.all() else int(np.argmin(lead))
    found: NDArray[np.int64] = places[:sure]
    return found


def _step(chunk: NDArray[np.uint8], start: int, count: int) -> NDArray[np.int64]:
    """Positions of the next lengths, relative to `start`, read one by one."""
    places, position = list[int](), start
    while len(places) < count and position + LENGTH_BYTES <= len(chunk):
        places.append(position - start)
        position += LENGTH_BYTES + _length(chunk, position)
    if not places:
        raise ValueError("the chunk of keys ends too early")
    return np.array(places, np.int64)


def _length(chunk: NDArray[np.uint8], position: int) -> int:
    return int.from_bytes(chunk[position : position + LENGTH_BYTES].tobytes(), "little")
