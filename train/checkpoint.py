"""What a run needs to go on exactly where it was stopped."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from epalm.devices import peak_device_memory
from epalm.errors import DataError
from epalm.memory import peak_memory
from epalm.model.epalm import EPALM, trainable
from epalm.model.run_record import ADAPTER_FILE
from epalm.model.saved import save_adapter

STATE_FILE = "last.pt"
LAST_FILE = "last.safetensors"
METRICS_FILE = "metrics.jsonl"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps done, over all epochs.
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


def save_state(folder: Path, model: EPALM, optimizer: Optimizer, progress: Progress) -> None:
    """Write trained tensors, optimiser state and progress in one atomic file."""
    weights = {name: weight.detach().cpu() for name, weight in trainable(model)}
    state = {
        "weights": weights,
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress).copy(),
    }
    temporary = folder / f".{STATE_FILE}.new"
    torch.save(state, temporary)
    temporary.replace(folder / STATE_FILE)
    save_adapter(model, folder / LAST_FILE)


def load_state(folder: Path, model: EPALM, optimizer: Optimizer) -> Progress:
    """Restore what `save_state` wrote; a fresh `Progress` if there is nothing.

    Raises:
        DataError: the file is damaged or of another model.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        return Progress()
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["weights"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        return Progress(**state["progress"])
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"{file} cannot be resumed ({error}): start over with --fresh") from error


def keep_best(folder: Path, model: EPALM) -> None:
    """Make the present weights the run's result."""
    save_adapter(model, folder / ADAPTER_FILE)


def spent(progress: Progress) -> dict[str, float]:
    """A run's wall time so far, in seconds, and this process's memory at its peak, in bytes."""
    return {
        "seconds": round(progress.seconds, 1),
        "memory": peak_memory(),
        "device_memory": peak_device_memory(),
    }


class MetricsLog:
    """metrics.jsonl: one line per logged step and per validation."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        """Open the log and drop what was written behind the checkpoint a run resumes from."""
        self.file = folder / METRICS_FILE
        if self.file.is_file():
            lines = self.file.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _before(line, progress)]
            self.file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def append(self, **fields: str | float) -> None:
        """Add a line."""
        with self.file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(fields) + "\n")


def _before(line: str, progress: Progress) -> bool:
    try:
        fields = json.loads(line)
    except ValueError:
        return False  # the line that was being written when the run was killed
    if fields["kind"] == "val":
        return bool(fields["epoch"] <= progress.validated)
    return bool(fields["step"] <= progress.step)
