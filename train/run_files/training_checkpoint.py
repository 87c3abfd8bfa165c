"""What a run needs to resume exactly where it was stopped."""

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
from epalm.model.checkpoints.run_io import save_adapter
from epalm.model.checkpoints.tensor_file import check_tensors, read_tensors, write_tensors
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.untrusted.checked_json import build, parse_json

logger = logging.getLogger(__name__)

STATE_FILE = "checkpoint.safetensors"
"""Trained tensors, state of the optimizer, and progress."""

EARLIER_STATE_FILE = "last.pt"
"""The same, written by earlier versions with torch.save and without a checksum."""

LAST_FILE = "last.safetensors"
"""The trained tensors alone, in the layout of the adapter."""

WEIGHTS = "weights"
OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each tensor; prefixes of the names in the checkpoint, as `WEIGHTS`."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps done, over all epochs.
        validated: epochs that have been validated.
        best_score: highest validation score so far.
        best_epoch: the epoch that reached it, counted from 1; 0 before the first validation.
        seconds: time spent so far.
    """

    step: int = 0
    validated: int = 0
    best_score: float = float("-inf")
    best_epoch: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no run can have reached.

        Raises:
            ValueError: a number is negative or NaN.
        """
        numbers = (self.step, self.validated, self.best_epoch, self.seconds)
        if not all(number >= 0 for number in numbers) or math.isnan(self.best_score):
            raise ValueError(f"{self} cannot be")


def save_state(folder: Path, model: EPALM, optimizer: Optimizer, progress: Progress) -> None:
    """Write trained tensors, state of the optimizer and progress in one atomic file.

    Raises:
        OSError: the file system refuses; the last checkpoint is kept.
    """
    notes = {"progress": json.dumps(_finite(asdict(progress)))}
    write_tensors(folder / STATE_FILE, _tensors(model, optimizer), notes=notes)
    (folder / EARLIER_STATE_FILE).unlink(missing_ok=True)
    save_adapter(model, folder / LAST_FILE)


def load_state(folder: Path, model: EPALM, optimizer: Optimizer) -> Progress:
    """Restore what `save_state` wrote; a fresh `Progress` if there is nothing.

    Raises:
        RunFolderError: the file is damaged or of another model.
    """
    file = folder / STATE_FILE
    earlier = folder / EARLIER_STATE_FILE
    if not file.is_file() and not earlier.is_file():
        return Progress()
    try:
        if file.is_file():
            found, progress = _read(file)
        else:
            file = earlier
            found, progress = _read_earlier(file, model, optimizer)
        _restore(found, model, optimizer, where=str(file))
    except DataError as error:
        raise RunFolderError(
            f"{folder} cannot be resumed: {error}; put back a copy of the file, or start over "
            "with --fresh"
        ) from error
    return progress


def check_finite(model: EPALM, optimizer: Optimizer, *, step: int) -> None:
    """Refuse to keep weights or averages of gradients that are NaN or infinite.

    A loss is computed before its step changes the weights, so that the last step of an epoch can
    spoil them unnoticed.

    Raises:
        TrainingError: names a tensor.
    """
    tensors = _tensors(model, optimizer)
    finite = torch.stack([torch.isfinite(one).all().cpu() for one in tensors.values()])
    if not bool(finite.all()):
        name = list(tensors)[int(finite.int().argmin())]
        raise TrainingError(
            f"{name} is not finite after step {step}: lower lr, set clip_norm, or use --set "
            "lm_precision=bf16 or fp32 instead of fp16; what was saved before is kept"
        )


def _tensors(model: EPALM, optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything that a checkpoint keeps, by name."""
    tensors = {f"{WEIGHTS}/{name}": weight.detach() for name, weight in trainable_parameters(model)}
    for name, weight in _named(model, optimizer):
        state = optimizer.state.get(weight, {})
        tensors |= {f"{key}/{name}": state[key] for key in OPTIMIZER_STATE if key in state}
    return tensors


def _named(model: EPALM, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors in the optimizer's order."""
    names = {weight: name for name, weight in trainable_parameters(model)}
    for group in optimizer.param_groups:
        yield from ((names[weight], weight) for weight in group["params"])


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without the score of a run that has not been validated, which JSON cannot express."""
    return {name: value for name, value in fields.items() if value != -math.inf}


def _read(file: Path) -> tuple[dict[str, Tensor], Progress]:
    read = read_tensors(file)
    try:
        notes = parse_json(read.notes.get("progress", ""), "progress")
        return read.tensors, build(Progress, notes, "progress")
    except ValueError as error:
        raise DataError(f"{file} has no progress of a run ({error})") from error


def _read_earlier(
    file: Path, model: EPALM, optimizer: Optimizer
) -> tuple[dict[str, Tensor], Progress]:
    """The same from a file of an earlier version; nothing in it is executed."""
    logger.info("%s has no checksum: it was written by an earlier version", file)
    names = [name for name, _ in _named(model, optimizer)]
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles of other protocols
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        found = {f"{WEIGHTS}/{name}": weight for name, weight in state["weights"].items()}
        for place, averages in state["optimizer"]["state"].items():
            found |= {f"{key}/{names[place]}": value for key, value in averages.items()}
        return found, build(Progress, _finite(dict(state["progress"])), "progress")
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file} is damaged ({type(error).__name__}: {reason})") from error


_UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, UnpicklingError, ValueError, struct.error),
)
"""What torch.load and damaged contents raise."""


def _restore(
    found: Mapping[str, Tensor], model: EPALM, optimizer: Optimizer, *, where: str
) -> None:
    named = list(_named(model, optimizer))
    # A tensor that never had a gradient has no averages: all of them are there, or none is.
    stepped = {name for key in OPTIMIZER_STATE for name, _ in named if f"{key}/{name}" in found}
    wanted = {f"{WEIGHTS}/{name}": weight.detach() for name, weight in named}
    for name, weight in named:
        if name in stepped:
            like = (torch.zeros(()), weight.detach(), weight.detach())
            keys = (f"{key}/{name}" for key in OPTIMIZER_STATE)
            wanted |= dict(zip(keys, like, strict=True))
    check_tensors(found, wanted, source=where)
    with torch.no_grad():
        for name, weight in named:
            weight.copy_(found[f"{WEIGHTS}/{name}"])
    state = {
        place: {key: found[f"{key}/{name}"] for key in OPTIMIZER_STATE}
        for place, (name, _) in enumerate(named)
        if name in stepped
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
