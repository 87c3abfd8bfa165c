"""What `epalm-train --json` prints about a run."""

from pathlib import Path
from typing import Any

from epalm.model.checkpoints.run_record import METRICS_FILE, RunRecord
from epalm.untrusted.checked_json import read_json_lines

NOT_SCORES = ("kind", "step", "epoch")
"""Fields of a line of metrics.jsonl that are no scores."""


def run_summary(folder: Path, record: RunRecord) -> dict[str, object]:
    """A run, its parameters and its validations.

    Args:
        folder: run folder; without metrics.jsonl, as of an imported run, there are no validations.
        record: record of the run.

    Returns:
        "best" has the epoch and the scores of the best weights, or None; "seconds" is the wall time
        of training, or None.
    """
    file = folder / METRICS_FILE
    lines: list[Any] = [line for _, line in read_json_lines(file)] if file.is_file() else []
    validations = [_validation(line) for line in lines if line["kind"] == "val"]
    spent = [line["seconds"] for line in lines if line["kind"] == "spent"]
    return {
        "run": record.name,
        "folder": str(folder),
        "task": record.task,
        "recipe": record.recipe,
        "variant": record.model.variant,
        "blind": record.blind,
        "trained_parameters": record.trained,
        "frozen_parameters": record.frozen,
        "best": max(validations, key=_selecting, default=None),
        "validations": validations,
        "seconds": spent[-1] if spent else None,
    }


def _validation(line: dict[str, Any]) -> dict[str, Any]:
    scores = {name: value for name, value in line.items() if name not in NOT_SCORES}
    return {"epoch": line["epoch"], "step": line["step"], "scores": scores}


def _selecting(validation: dict[str, Any]) -> float:
    """The score that selects the best epoch, the first; of equal ones the earliest is the best."""
    return float(next(iter(validation["scores"].values())))
