"""Keys as lines of JSON: the form in which an index has them and the digest of a store reads them.

A line is the JSON text of a key, ASCII with quotes, followed by a line feed. JSON escapes line
feeds, so there is none inside a line.
"""

import json
from collections.abc import Sequence
from hashlib import blake2s

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 8
"""Bytes of the BLAKE2s hash (RFC 7693) of a key's JSON text, read as a little-endian integer."""


def encode_lines(keys: Sequence[str]) -> bytes:
    """One line per key."""
    if not keys:
        return b""
    return json.dumps(list(keys), separators=("\n", ":"))[1:-1].encode() + b"\n"


def decode_lines(lines: bytes) -> list[str]:
    """The keys of some lines.

    Raises:
        ValueError: a line is not the JSON text of a string.
    """
    keys: list[str] = json.loads(b"[" + lines[:-1].replace(b"\n", b",") + b"]")
    if not all(type(key) is str for key in keys):
        raise ValueError("a key is not a text")
    return keys


def line_starts(lines: bytes) -> NDArray[np.int64]:
    """(keys + 1,) offset of each line, and the number of bytes."""
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")) + 1
    return np.concatenate([[0], ends]).astype(np.int64)


def hash_lines(lines: Sequence[bytes]) -> NDArray[np.uint64]:
    """(keys,) hash of each line; the lines do not have their line feeds."""
    digests = [blake2s(line, digest_size=HASH_BYTES).digest() for line in lines]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
