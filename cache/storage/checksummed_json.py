"""Small JSON files that tell when a bit of them was changed."""

import json
from collections.abc import Mapping
from typing import Any

from epalm.cache.storage.storage import measure
from epalm.errors import CorruptShardError

SEAL = "crc32c"
"""The field that holds the CRC-32C of all other fields, written without it."""


def seal(fields: Mapping[str, Any]) -> bytes:
    """Stable JSON text with a checksum of itself: equal fields give equal bytes."""
    return _dump({**fields, SEAL: _checksum(fields)})


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """The fields that `seal` wrote.

    Raises:
        CorruptShardError: a byte differs from what `seal` wrote.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        wanted = seal({name: value for name, value in fields.items() if name != SEAL})
    except (ValueError, AttributeError, RecursionError):
        fields, wanted = {}, b""
    if not data or data != wanted:
        raise CorruptShardError(
            f"{where} is damaged: run `epalm-extract repair` on the store, then extract again"
        )
    del fields[SEAL]
    return fields


def _checksum(fields: Mapping[str, Any]) -> str:
    return measure([_dump(fields)])[1]


def _dump(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()
