"""Validations of a run, read from its metrics.jsonl."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.train.sweep.halving import quality
from epalm.untrusted.checked_json import build, read_json_lines

NOT_FIGURES = ("kind", "step", "epoch")
"""Fields of a line that are no figures."""


@dataclass(frozen=True)
class Validation:
    """One validation.

    Attributes:
        step: optimizer steps before it.
        epoch: epochs before it.
        figures: name -> value; the first selects the best epoch.
    """

    step: int
    epoch: int
    figures: Mapping[str, float]


def read_validations(file: Path) -> list[Validation]:
    """All validations in their order; none if there is no such file.

    Raises:
        MalformedFileError: a line is damaged.
    """
    if not file.is_file():
        return []
    lines: list[tuple[str, Any]] = list(read_json_lines(file))
    return [_validation(line, place) for place, line in lines if line.get("kind") == "val"]


def best_validation(validations: Sequence[Validation]) -> Validation | None:
    """The validation with the best first figure, of equal ones the first."""
    return max(validations, key=lambda one: quality(one.figures, "", "auto"), default=None)


def _validation(line: dict[str, Any], place: str) -> Validation:
    figures = {name: value for name, value in line.items() if name not in NOT_FIGURES}
    return build(Validation, {**line, "figures": figures}, place)
