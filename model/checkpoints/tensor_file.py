"""Safetensors files with a checksum over every byte, written whole or not at all.

The checksum is a CRC-32C of the file in which its own eight digits are zeros. It is in the file's
metadata, so that every reader of safetensors reads these files as any other. There is one entry of
metadata, since safetensors writes several in no particular order.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from epalm.atomic_write import sync
from epalm.errors import DataError

logger = logging.getLogger(__name__)

KEY = "epalm"
"""The entry of the metadata: `SEAL`, eight digits, and notes as JSON."""

SEAL = "crc32c "
UNSEALED = "00000000"

_SEALED = re.compile(rb'"epalm":"crc32c ([0-9a-f]{8})')
_MARKS = (b'"epalm":"', b'"crc32c ')
"""Either tells a file whose checksum was destroyed from one that never had any."""

_HEAD_BYTES = 8
"""The length of the header, little-endian (format of safetensors)."""

_BLOCK_BYTES = 1 << 24
"""Bytes per read while a checksum is computed (16 MiB)."""


@dataclass(frozen=True)
class TensorFile:
    """What a file holds.

    Attributes:
        tensors: name -> tensor, in main memory.
        notes: name -> text.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, str]


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], *, notes: Mapping[str, str] | None = None
) -> None:
    """Write tensors in one step: temporary file, fsync, rename, fsync of the folder.

    Args:
        file: replaced if it is there.
        tensors: name -> tensor on any device.
        notes: short texts to keep with them, name -> text.

    Raises:
        OSError: the file system refuses; what was there is unchanged.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = file.with_name(f".{file.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would let nobody but the owner read it
        _save(temporary, plain, json.dumps(notes or {}, sort_keys=True))
        temporary.chmod(mode)
        _seal(temporary)
        temporary.replace(file)
        sync(file.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_tensors(file: Path) -> TensorFile:
    """What `write_tensors` wrote, or the tensors of a file without a checksum, with a log line.

    Raises:
        DataError: a byte differs from what was written, or the file cannot be read.
    """
    try:
        if not _check(file):
            logger.info("%s has no checksum: it was written by an earlier version", file)
        with safe_open(file, "pt") as opened:
            entry = (opened.metadata() or {}).get(KEY, "")
        notes = json.loads(entry[len(SEAL + UNSEALED) :]) if entry else {}
        # Copies: safetensors maps the file, and who cut it short later would end this process.
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        return TensorFile(tensors, notes)
    except SafetensorError as error:
        raise DataError(f"{file} is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, where: str) -> None:
    """Compare tensors with those that they are to replace, by name.

    Args:
        found: name -> tensor of a file.
        wanted: name -> tensor of the same shape.
        where: the file, for the message.

    Raises:
        DataError: one is missing, unexpected, of another shape or type, or not finite.
    """
    if missing := sorted(wanted.keys() - found.keys()):
        raise DataError(f"{where} is of another model: it lacks {_counted(missing)}")
    if unexpected := sorted(found.keys() - wanted.keys()):
        raise DataError(f"{where} is of another model: it has unexpected {_counted(unexpected)}")
    for name, tensor in wanted.items():
        own = found[name]
        if own.shape != tensor.shape or own.dtype != tensor.dtype:
            raise DataError(
                f"{where} is of another model: {name} is {_words(own)}, wanted {_words(tensor)}"
            )
        if not bool(torch.isfinite(own).all()):
            raise DataError(f"{where} cannot be used: {name} has values that are not finite")


def _counted(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _words(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _save(file: Path, tensors: dict[str, Tensor], notes: str) -> None:
    try:
        save_file(tensors, file, metadata={KEY: f"{SEAL}{UNSEALED}{notes}"})
    except SafetensorError as error:  # its only reason for tensors is the file system
        raise OSError(str(error)) from error


def _seal(file: Path) -> None:
    place = _SEALED.search(_header(file))
    assert place is not None, "the header has the empty checksum"
    with file.open("r+b") as opened:
        opened.seek(_HEAD_BYTES + place.start(1))
        opened.write(_checksum(file, _HEAD_BYTES + place.start(1)).encode())
        opened.flush()
        os.fsync(opened.fileno())


def _check(file: Path) -> bool:
    """Whether the file has a checksum, which is then right.

    Raises:
        DataError: it is wrong.
    """
    header = _header(file)
    place = _SEALED.search(header)
    if place is None and not any(mark in header for mark in _MARKS):
        return False
    if place is None or _checksum(file, _HEAD_BYTES + place.start(1)) != place[1].decode():
        raise DataError(f"{file} is damaged: its checksum does not match its bytes")
    return True


def _header(file: Path) -> bytes:
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(_HEAD_BYTES), "little")
        return opened.read(min(size, file.stat().st_size))


def _checksum(file: Path, place: int) -> str:
    """CRC-32C of a file with zeros for the eight digits at `place`."""
    checksum, first = 0, 0
    for block in _blocks(file):
        start = max(place - first, 0)
        end = min(place + len(UNSEALED) - first, len(block))
        if start < end:
            block[start:end] = b"0" * (end - start)
        checksum = google_crc32c.extend(checksum, bytes(block))
        first += len(block)
    return f"{checksum:08x}"


def _blocks(file: Path) -> Iterator[bytearray]:
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            yield bytearray(block)
