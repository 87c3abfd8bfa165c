"""What `epalm-train --json` prints about a run."""

from pathlib import Path
from typing import Any

from epalm.model.checkpoints.run_record import METRICS_FILE, RunRecord
from epalm.model.checkpoints.validation_figures import (
    IN_NATS,
    NOT_FIGURES,
    selecting_quality,
)
from epalm.untrusted.checked_json import read_json_lines


def run_summary(folder: Path, record: RunRecord) -> dict[str, object]:
    """A run, its parameters and its validations.

    Args:
        folder: run folder; without metrics.jsonl, as of an imported run, there are no validations.
        record: record of the run.

    Returns:
        "best" has epoch, scores, loss and image gain of the best weights, or None; "seconds" is the
        wall time of training, or None.
    """
    file = folder / METRICS_FILE
    lines: list[Any] = [line for _, line in read_json_lines(file)] if file.is_file() else []
    validations = [line for line in lines if line["kind"] == "val"]
    best = max(validations, key=selecting_quality, default=None)
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
        "best": _validation(best) if best else None,
        "validations": list(map(_validation, validations)),
        "seconds": spent[-1] if spent else None,
    }


def _validation(line: dict[str, Any]) -> dict[str, Any]:
    figures = {name: value for name, value in line.items() if name not in NOT_FIGURES}
    return {
        "epoch": line["epoch"],
        "step": line["step"],
        "scores": {name: value for name, value in figures.items() if name not in IN_NATS},
        "nats_per_token": {name: value for name, value in figures.items() if name in IN_NATS},
    }
