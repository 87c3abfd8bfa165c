"""Safetensors files with a checksum over every byte, written atomically.

The checksum is the CRC-32C of the file with zeros in place of the checksum's own eight digits. It
is in the file's metadata, so every reader of safetensors can read these files. The metadata has a
single entry, since safetensors writes several entries in no defined order.
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
"""Key of the metadata entry: `CHECKSUM_PREFIX`, eight digits, and notes as JSON."""

CHECKSUM_PREFIX = "crc32c "
EMPTY_CHECKSUM = "00000000"

_CHECKSUM = re.compile(rb'"epalm":"crc32c ([0-9a-f]{8})')
_CHECKSUM_MARKS = (b'"epalm":"', b'"crc32c ')
"""A header with either of these but without `_CHECKSUM` is damaged; one without them never had a
checksum."""

_LENGTH_BYTES = 8
"""Bytes of the header's length, little-endian, at the start of the file (safetensors format)."""

_BLOCK_BYTES = 1 << 24
"""Bytes per read while a checksum is computed (16 MiB)."""


@dataclass(frozen=True)
class TensorFile:
    """Content of a tensor file.

    Attributes:
        tensors: tensors by name, on the CPU.
        notes: texts by name.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, str]


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], *, notes: Mapping[str, str] | None = None
) -> None:
    """Write tensors atomically: temporary file, fsync, rename, fsync of the folder.

    Args:
        file: file to write, replaced if it exists.
        tensors: tensors by name, on any device.
        notes: short texts to store with them, by name.

    Raises:
        OSError: writing failed; an existing file is unchanged.
    """
    cpu_tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = file.with_name(f".{file.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors gives only the owner read access
        _save(temporary, cpu_tensors, json.dumps(notes or {}, sort_keys=True))
        temporary.chmod(mode)
        _write_checksum(temporary)
        temporary.replace(file)
        sync(file.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_tensors(file: Path) -> TensorFile:
    """Read a file written by `write_tensors`, or one without a checksum, with a log line.

    Raises:
        DataError: a byte differs from what was written, or the file cannot be read.
    """
    try:
        if not _check(file):
            logger.info("%s has no checksum: it was written by an earlier version", file)
        with safe_open(file, "pt") as opened:
            entry = (opened.metadata() or {}).get(KEY, "")
        notes = json.loads(entry[len(CHECKSUM_PREFIX + EMPTY_CHECKSUM) :]) if entry else {}
        # Copies, since safetensors maps the file: truncating it later would crash this process.
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        return TensorFile(tensors, notes)
    except SafetensorError as error:
        raise DataError(f"{file} is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str
) -> None:
    """Compare loaded tensors with those that they will replace, by name.

    Args:
        tensors: loaded tensors by name.
        expected: the model's tensors by name.
        source: file of the loaded tensors, for the message.

    Raises:
        DataError: a tensor is missing, unexpected, of another shape or dtype, or not finite.
    """
    wrong_model = f"{source} belongs to another model"
    if missing := sorted(expected.keys() - tensors.keys()):
        raise DataError(f"{wrong_model}: it lacks {_counted(missing)}")
    if unexpected := sorted(tensors.keys() - expected.keys()):
        raise DataError(f"{wrong_model}: it has unexpected {_counted(unexpected)}")
    for name, parameter in expected.items():
        tensor = tensors[name]
        if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
            raise DataError(
                f"{wrong_model}: {name} is {_describe(tensor)}, expected {_describe(parameter)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{source} cannot be used: {name} has values that are not finite")


def _counted(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _save(file: Path, tensors: dict[str, Tensor], notes: str) -> None:
    try:
        save_file(tensors, file, metadata={KEY: f"{CHECKSUM_PREFIX}{EMPTY_CHECKSUM}{notes}"})
    except SafetensorError as error:  # valid tensors only fail because of the file system
        raise OSError(str(error)) from error


def _write_checksum(file: Path) -> None:
    match = _CHECKSUM.search(_header(file))
    assert match is not None, "the header has the empty checksum"
    offset = _LENGTH_BYTES + match.start(1)
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(_checksum(file, offset).encode())
        opened.flush()
        os.fsync(opened.fileno())


def _check(file: Path) -> bool:
    """Whether the file has a checksum; if so, it matches.

    Raises:
        DataError: the checksum does not match.
    """
    header = _header(file)
    match = _CHECKSUM.search(header)
    if match is None and not any(mark in header for mark in _CHECKSUM_MARKS):
        return False
    if match is None or _checksum(file, _LENGTH_BYTES + match.start(1)) != match[1].decode():
        raise DataError(f"{file} is damaged: its checksum does not match its bytes")
    return True


def _header(file: Path) -> bytes:
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        return opened.read(min(size, file.stat().st_size))


def _checksum(file: Path, offset: int) -> str:
    """CRC-32C of a file with zeros in place of the eight digits at `offset`."""
    checksum, first = 0, 0
    for block in _blocks(file):
        start = max(offset - first, 0)
        end = min(offset + len(EMPTY_CHECKSUM) - first, len(block))
        if start < end:
            block[start:end] = b"0" * (end - start)
        checksum = google_crc32c.extend(checksum, bytes(block))
        first += len(block)
    return f"{checksum:08x}"


def _blocks(file: Path) -> Iterator[bytearray]:
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            yield bytearray(block)
