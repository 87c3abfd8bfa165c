"""The keys of an index as a chunk of the Zarr codec vlen-utf8, the form of `keys` in a Zarr store.

The chunk begins with the number of keys; each key is its number of bytes and its UTF-8 text. All
numbers are uint32, little-endian.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.key_lines import decode_lines
from epalm.cache.storage.checksum import size_and_checksum

LENGTH_BYTES = 4
"""Bytes of a number."""


STEP_BYTES = 1 << 15
"""Bytes of lines that are encoded at a time: those that stay in the processor's cache."""


PART_BYTES = 1 << 20
"""Bytes of lines of a part of the chunk, about."""


def encode_vlen(lines: bytes) -> bytes:
    """The keys of some lines as the chunk has them."""
    return b"".join(map(_encode_block, _divided(lines, STEP_BYTES)))


def _divided(lines: bytes, nbytes: int) -> Iterator[bytes]:
    """The lines in blocks of at least this number of bytes."""
    at = 0
    while at < len(lines):
        end = lines.find(b"\n", at + nbytes) + 1 or len(lines)
        yield lines[at:end]
        at = end


def _encode_block(lines: bytes) -> bytes:
    length = lines.find(b"\n") + 1
    if not len(lines) % length and b"\\" not in lines:
        table = np.frombuffer(lines, np.uint8).reshape(-1, length)
        # No other line feeds: then all lines have the length of the first one.
        if (table[:, -1] == ord("\n")).all() and lines.count(b"\n") == len(table):
            return _encode_equal(table)
    if b"\\" in lines:
        keys = [key.encode("utf-8", "surrogatepass") for key in decode_lines(lines)]
    else:
        keys = lines[1:-2].split(b'"\n"')
    lengths = list(map(len, keys))
    numbers = _NUMBERS if max(lengths) < len(_NUMBERS) else _numbers(max(lengths) + 1)
    parts = [b""] * (2 * len(keys))
    parts[::2] = [numbers[length] for length in lengths]
    parts[1::2] = keys
    return b"".join(parts)


def _encode_equal(table: NDArray[np.uint8]) -> bytes:
    """The keys of (lines, length) bytes, which takes a tenth of the time of any other lines."""
    length = table.shape[1] - 3  # without two quotes and the line feed
    chunk = np.empty((len(table), LENGTH_BYTES + length), np.uint8)
    chunk[:, :LENGTH_BYTES] = np.frombuffer(length.to_bytes(LENGTH_BYTES, "little"), np.uint8)
    chunk[:, LENGTH_BYTES:] = table[:, 1:-2]
    return chunk.tobytes()


def _numbers(count: int) -> list[bytes]:
    return [number.to_bytes(LENGTH_BYTES, "little") for number in range(count)]


_NUMBERS = _numbers(4096)


class KeysChunk(Sequence[bytes]):
    """The parts of the chunk, which are encoded whenever they are iterated over."""

    def __init__(
        self, count: int, lines: Iterable[bytes], sums: tuple[int, str] | None = None
    ) -> None:
        """Encode nothing yet.

        Args:
            count: number of keys.
            lines: blocks of lines; iterated over again each time.
            sums: size and checksum of the chunk, if they are known.
        """
        self._sums = sums
        self._count = count
        self._lines = lines

    def until(self, stopped: Callable[[], bool]) -> "KeysChunk":
        """The same parts; an iteration ends with InterruptedError once `stopped` says so."""
        return KeysChunk(self._count, _Until(self._lines, stopped), self._sums)

    @property
    def sums(self) -> tuple[int, str]:
        """Size and checksum of the chunk."""
        return self._sums or size_and_checksum(self)

    def __iter__(self) -> Iterator[bytes]:
        yield self._count.to_bytes(LENGTH_BYTES, "little")
        for lines in self._lines:
            yield from map(encode_vlen, _divided(lines, PART_BYTES))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...

    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        """A part or some parts, for which all are encoded."""
        return list(self)[at]


class _Until(Iterable[bytes]):
    """Blocks of lines, of which there are no more once something has stopped."""

    def __init__(self, lines: Iterable[bytes], stopped: Callable[[], bool]) -> None:
        self._lines = lines
        self._stopped = stopped

    def __iter__(self) -> Iterator[bytes]:
        for block in self._lines:
            if self._stopped():
                raise InterruptedError("stopped")
            yield block
