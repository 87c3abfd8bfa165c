"""Read the tensors of a checkpoint file, however they are nested in it."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from epalm.errors import MissingFileError, ModelError
from epalm.untrusted.file_kinds import check_weights_file, describe_file

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""File names of weights on the Hugging Face hub, in order of preference."""

MAX_NESTING = 4
"""Largest depth at which tensors are searched: {"state": {"teacher": {"backbone": {...}}}}."""

_NUMBERS = tuple(np.dtype(kind).type(0) for kind in ("f8", "f4", "i8", "i4", "?"))

_MAKE_NUMBER: Callable[..., Any] = _NUMBERS[0].__reduce__()[0]

PLAIN_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,  # the options of the training script: DINO, MAE, timm
    (_MAKE_NUMBER, "numpy.core.multiarray.scalar"),  # e.g. the best score; the name in NumPy 1
    (_MAKE_NUMBER, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(number.dtype) for number in _NUMBERS),
]
"""What checkpoints contain beside tensors; making them runs no code of the file."""


def read_tensors(weights: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file.

    Args:
        weights: the file, or a folder of a saved model.

    Returns:
        Name -> tensor. The name of a tensor in a nested dictionary begins with the keys that lead
        to it: "teacher.backbone.cls_token".

    Raises:
        MissingFileError: no such file.
        ModelError: the file does not contain weights.
    """
    file = _file_in(weights) if weights.is_dir() else weights
    if not file.is_file():
        raise MissingFileError(f"--weights {file}: no such file")
    label = f"--weights {file}"
    check_weights_file(file, label=label)
    try:
        content = _read(file)
    except Exception as error:  # a damaged pickle may raise anything, and torch's message advises
        # to execute the file
        raise ModelError(f"{label} cannot be read: it is {describe_file(file)}") from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{label} contains a {type(content).__name__}, expected tensors by name")
    return dict(_flattened(content))


def _read(file: Path) -> object:
    if file.suffix == ".safetensors":
        return safetensors.torch.load_file(file)
    with torch.serialization.safe_globals(PLAIN_GLOBALS):
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    return content


def _flattened(
    content: Mapping[object, object], prefix: str = "", depth: int = 1
) -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if not isinstance(key, str):  # the state of an optimizer is numbered
            continue
        if isinstance(value, Tensor):
            yield prefix + key, value
        elif isinstance(value, Mapping) and depth < MAX_NESTING:
            yield from _flattened(value, f"{prefix}{key}.", depth + 1)


def _file_in(folder: Path) -> Path:
    """Find the weights in the folder of a saved model by the file names of the hub."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise MissingFileError(
        f"--weights {folder} is a folder without {' or '.join(WEIGHT_FILES)}: give the file"
    )
