"""Checkpoints: trainable tensors, optimizer state and progress of a run."""

import json
import logging
import math
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from epalm.errors import DataError, RunFolderError, TrainingError
from epalm.model.checkpoints.adapter_io import save_adapter
from epalm.model.checkpoints.tensor_file import check_tensors, read_tensors, write_tensors
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.untrusted.checked_json import build, parse_json

logger = logging.getLogger(__name__)

STATE_FILE = "checkpoint.safetensors"
"""Trainable tensors, optimizer state and progress."""

EARLIER_STATE_FILE = "last.pt"
"""Checkpoint of earlier versions, written with torch.save and without a checksum."""

LAST_FILE = "last.safetensors"
"""The trainable tensors only, in the format of the adapter."""

WEIGHTS = "weights"
OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq")
"""State of AdamW for each tensor; prefixes of names in the checkpoint, as `WEIGHTS` is."""


@dataclass
class Progress:
    """Position of a run in its training.

    Attributes:
        step: optimizer steps done, over all epochs.
        validated: epochs that have been validated.
        best_score: highest validation score so far.
        best_epoch: the epoch that reached it, counted from 1; 0 before the first validation.
        seconds: wall time so far.
    """

    step: int = 0
    validated: int = 0
    best_score: float = float("-inf")
    best_epoch: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: a number is negative or NaN.
        """
        numbers = (self.step, self.validated, self.best_epoch, self.seconds)
        if not all(number >= 0 for number in numbers) or math.isnan(self.best_score):
            raise ValueError(f"{self} is impossible")


def save_state(folder: Path, model: EPALM, optimizer: Optimizer, progress: Progress) -> None:
    """Write trainable tensors, optimizer state and progress in one atomic file.

    Raises:
        OSError: the file system refuses; the last checkpoint is kept.
    """
    notes = {"progress": json.dumps(_finite(asdict(progress)))}
    write_tensors(folder / STATE_FILE, _tensors(model, optimizer), notes=notes)
    (folder / EARLIER_STATE_FILE).unlink(missing_ok=True)
    save_adapter(model, folder / LAST_FILE)


def load_state(folder: Path, model: EPALM, optimizer: Optimizer) -> Progress:
    """Restore what `save_state` wrote; a new `Progress` if there is no checkpoint.

    Raises:
        RunFolderError: the file is damaged or belongs to another model.
    """
    file = folder / STATE_FILE
    earlier = folder / EARLIER_STATE_FILE
    if not file.is_file() and not earlier.is_file():
        return Progress()
    try:
        if file.is_file():
            tensors, progress = _read(file)
        else:
            file = earlier
            tensors, progress = _read_earlier(file, model, optimizer)
        _restore(tensors, model, optimizer, where=str(file))
    except DataError as error:
        raise RunFolderError(
            f"{folder} cannot be resumed: {error}; put back a copy of the file, or start over "
            "with --fresh"
        ) from error
    return progress


def check_finite(model: EPALM, optimizer: Optimizer, *, step: int) -> None:
    """Refuse to save weights or optimizer state that are NaN or infinite.

    A loss is computed before its step changes the weights, so the last step of an epoch can make
    them non-finite unnoticed.

    Raises:
        TrainingError: names a tensor.
    """
    tensors = _tensors(model, optimizer)
    finite = torch.stack([torch.isfinite(tensor).all().cpu() for tensor in tensors.values()])
    if not bool(finite.all()):
        name = list(tensors)[int(finite.int().argmin())]
        raise TrainingError(
            f"{name} is not finite after step {step}: lower lr, set clip_norm, or use --set "
            "lm_precision=bf16 or fp32 instead of fp16; earlier checkpoints are kept"
        )


def _tensors(model: EPALM, optimizer: Optimizer) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name."""
    tensors = {f"{WEIGHTS}/{name}": weight.detach() for name, weight in trainable_parameters(model)}
    for name, weight in _named(model, optimizer):
        state = optimizer.state.get(weight, {})
        tensors |= {f"{key}/{name}": state[key] for key in OPTIMIZER_STATE if key in state}
    return tensors


def _named(model: EPALM, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Names and trainable tensors in the optimizer's order."""
    names = {weight: name for name, weight in trainable_parameters(model)}
    for group in optimizer.param_groups:
        yield from ((names[weight], weight) for weight in group["params"])


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without the score of a run before its first validation (-inf is not JSON)."""
    return {name: value for name, value in fields.items() if value != -math.inf}


def _read(file: Path) -> tuple[dict[str, Tensor], Progress]:
    read = read_tensors(file)
    try:
        notes = parse_json(read.notes.get("progress", ""), "progress")
        return read.tensors, build(Progress, notes, "progress")
    except ValueError as error:
        raise DataError(f"{file} does not record a run's progress ({error})") from error


def _read_earlier(
    file: Path, model: EPALM, optimizer: Optimizer
) -> tuple[dict[str, Tensor], Progress]:
    """Read a checkpoint of an earlier version; nothing in it is executed."""
    logger.info("%s has no checksum: it was written by an earlier version", file)
    names = [name for name, _ in _named(model, optimizer)]
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles of other protocols
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        tensors = {f"{WEIGHTS}/{name}": weight for name, weight in state["weights"].items()}
        for index, averages in state["optimizer"]["state"].items():
            tensors |= {f"{key}/{names[index]}": value for key, value in averages.items()}
        return tensors, build(Progress, _finite(dict(state["progress"])), "progress")
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file} is damaged ({type(error).__name__}: {reason})") from error


_UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, UnpicklingError, ValueError, struct.error),
)
"""Errors that torch.load and damaged contents raise."""


def _restore(
    tensors: Mapping[str, Tensor], model: EPALM, optimizer: Optimizer, *, where: str
) -> None:
    named = list(_named(model, optimizer))
    # A tensor that never had a gradient has no averages; otherwise it has all of them.
    stepped = {name for key in OPTIMIZER_STATE for name, _ in named if f"{key}/{name}" in tensors}
    expected = {f"{WEIGHTS}/{name}": weight.detach() for name, weight in named}
    for name, weight in named:
        if name in stepped:
            like = (torch.zeros(()), weight.detach(), weight.detach())
            keys = (f"{key}/{name}" for key in OPTIMIZER_STATE)
            expected |= dict(zip(keys, like, strict=True))
    check_tensors(tensors, expected, source=where)
    with torch.no_grad():
        for name, weight in named:
            weight.copy_(tensors[f"{WEIGHTS}/{name}"])
    state = {
        index: {key: tensors[f"{key}/{name}"] for key in OPTIMIZER_STATE}
        for index, (name, _) in enumerate(named)
        if name in stepped
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
