"""Validations of a run, read from its metrics.jsonl."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.model.checkpoints.validation_figures import NOT_FIGURES, selecting_quality
from epalm.untrusted.checked_json import build, read_json_lines


@dataclass(frozen=True)
class LoggedValidation:
    """One validation.

    Attributes:
        step: optimizer steps before it.
        epoch: epochs before it.
        figures: name -> value; the first selects the best epoch.
    """

    step: int
    epoch: int
    figures: Mapping[str, float]


def read_validations(file: Path) -> list[LoggedValidation]:
    """All validations in their order; none if there is no such file.

    Raises:
        MalformedFileError: a line is damaged.
    """
    if not file.is_file():
        return []
    lines: list[tuple[str, Any]] = list(read_json_lines(file))
    return [_validation(line, place) for place, line in lines if line.get("kind") == "val"]


def best_validation(validations: Sequence[LoggedValidation]) -> LoggedValidation | None:
    """The validation with the best first figure, of equal ones the first."""
    return max(validations, key=lambda one: selecting_quality(one.figures), default=None)


def _validation(line: dict[str, Any], place: str) -> LoggedValidation:
    figures = {name: value for name, value in line.items() if name not in NOT_FIGURES}
    return build(LoggedValidation, {**line, "figures": figures}, place)
