"""Small JSON files with a checksum of their own content."""

import json
from collections.abc import Mapping
from typing import Any

from epalm.cache.storage.checksum import size_and_checksum
from epalm.errors import CorruptShardError

CHECKSUM_FIELD = "crc32c"
"""The field with the CRC-32C of the JSON text of all other fields."""

CHECKSUM_DIGITS = 8

_FIRST_LINE, _LINE_END = f'{{\n "{CHECKSUM_FIELD}": "'.encode(), b'",\n'


def dump_checksummed(fields: Mapping[str, Any]) -> bytes:
    """JSON text with a checksum of the fields: equal fields give equal bytes."""
    return _dump({**fields, CHECKSUM_FIELD: size_and_checksum([_dump(fields)])[1]})


def load_checksummed(data: bytes, where: str) -> dict[str, Any]:
    """The fields that `dump_checksummed` wrote.

    Args:
        data: content of the file.
        where: name of the file for the error message.

    Raises:
        CorruptShardError: a byte differs from what `dump_checksummed` wrote.
    """
    try:
        fields: dict[str, Any] = json.loads(data.decode())
        content = {name: value for name, value in fields.items() if name != CHECKSUM_FIELD}
        intact = _leads_intact(data) or data == dump_checksummed(content)
    except (ValueError, AttributeError, RecursionError):
        content, intact = {}, False
    if not data or not intact:
        raise CorruptShardError(
            f"{where} is damaged: run `epalm-extract repair` on the store, then extract again"
        )
    return content


def _leads_intact(data: bytes) -> bool:
    """Whether the first line has the checksum of all other lines.

    That is where `dump_checksummed` writes it, unless another field sorts before it. Comparing the
    text itself takes a tenth of the time of writing the fields again.
    """
    end = len(_FIRST_LINE) + CHECKSUM_DIGITS
    if not data.startswith(_FIRST_LINE) or data[end : end + len(_LINE_END)] != _LINE_END:
        return False
    others = b"{\n" + data[end + len(_LINE_END) :]
    return size_and_checksum([others])[1].encode() == data[len(_FIRST_LINE) : end]


def _dump(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()
