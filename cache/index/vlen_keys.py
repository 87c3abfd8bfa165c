"""The keys of an index as a chunk of the Zarr codec vlen-utf8, the form of `keys` in a Zarr store.

The chunk begins with the number of keys; each key is its number of bytes and its UTF-8 text. All
numbers are uint32, little-endian.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from epalm.cache.index.key_lines import decode_lines
from epalm.cache.storage.checksum import size_and_checksum

LENGTH_BYTES = 4
"""Bytes of a number."""


STEP_BYTES = 1 << 15
"""Bytes of lines that are encoded at a time: those that stay in the processor's cache."""


def encode_vlen(lines: bytes) -> bytes:
    """The keys of some lines as the chunk has them."""
    blocks, at = [], 0
    while at < len(lines):
        end = lines.find(b"\n", at + STEP_BYTES) + 1 or len(lines)
        blocks.append(_encode_block(lines[at:end]))
        at = end
    return b"".join(blocks)


def _encode_block(lines: bytes) -> bytes:
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

    @property
    def sums(self) -> tuple[int, str]:
        """Size and checksum of the chunk."""
        return self._sums or size_and_checksum(self)

    def __iter__(self) -> Iterator[bytes]:
        yield self._count.to_bytes(LENGTH_BYTES, "little")
        yield from map(encode_vlen, self._lines)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...

    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        """A part or some parts, for which all are encoded."""
        return list(self)[at]
