"""Successive halving: members with the worst figures are given up at rungs of training.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
2016.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from epalm.errors import RecipeError, UsageError
from epalm.model.checkpoints import validation_figures
from epalm.train.config.config_io import build
from epalm.untrusted.quoted_values import shown

Mode = Literal["max", "min", "auto"]

Figures = Mapping[str, float]
"""Name -> value of a validation; the first selects a run's best epoch."""


@dataclass(frozen=True)
class HalvingTable:
    """Table [halving] of a sweep file, without its list; see `Halving`."""

    unit: Literal["epochs", "steps"] = "epochs"
    keep: float = 0.5
    by: str = ""
    mode: Mode = "auto"


@dataclass(frozen=True)
class Halving:
    """When which members are given up.

    Attributes:
        rungs: amounts of training after which members are compared, ascending.
        unit: what `rungs` count.
        keep: fraction of the members that are trained on after a rung, at least one.
        by: validation figure that members are compared by; empty for the one that selects the best
            epoch.
        mode: whether the largest or the smallest figure is the best; "auto" is "min" for the
            loss, else "max".
    """

    rungs: tuple[int, ...]
    unit: Literal["epochs", "steps"] = "epochs"
    keep: float = 0.5
    by: str = ""
    mode: Mode = "auto"

    def check_rungs(self, multiple: int) -> None:
        """Refuse rungs in steps at which training cannot pause.

        Args:
            multiple: number of steps after which training can pause.

        Raises:
            RecipeError: names the rungs.
        """
        if self.unit == "steps" and any(rung % multiple for rung in self.rungs):
            raise RecipeError(
                f"rungs in [halving] are {list(self.rungs)} steps, expected multiples of "
                f"{multiple}, after which training logs its loss"
            )

    def step(self, rung: int, *, steps_per_epoch: int, epochs: int) -> int:
        """The optimizer step of a rung, at most the last one of the training."""
        step = rung * steps_per_epoch if self.unit == "epochs" else rung
        return min(step, steps_per_epoch * epochs)

    def check_figure(self, figures: Figures) -> None:
        """Refuse figures without the one that members are compared by.

        Raises:
            UsageError: names the figures.
        """
        quality(figures, self.by, self.mode)

    def survivors(self, figures: Mapping[str, Figures]) -> list[str]:
        """The best members of a rung, best first; of equal ones the first in the sweep file.

        Args:
            figures: name of each member that reached the rung -> its figures there.
        """
        count = max(1, ceil(self.keep * len(figures)))
        return ranked(figures, self.by, self.mode)[:count]


def ranked(figures: Mapping[str, Figures], by: str, mode: Mode) -> list[str]:
    """Names of members, best first.

    Raises:
        UsageError: a member has no figure `by`.
    """
    return sorted(figures, key=lambda name: -quality(figures[name], by, mode))


def quality(figures: Figures, by: str, mode: Mode) -> float:
    """The figure that members are compared by, with the sign that makes more better.

    Raises:
        UsageError: there is no figure of that name.
    """
    name = by or next(iter(figures))
    if name not in figures:
        raise UsageError(
            f"the validation has no figure {name!r}, it has {', '.join(figures)}: correct `by` in "
            "[halving]"
        )
    if mode == "auto":
        return validation_figures.quality(name, figures[name])
    return figures[name] if mode == "max" else -figures[name]


def read_halving(table: Any, *, where: str) -> Halving | None:  # noqa: ANN401 - parsed TOML
    """The table [halving] of a sweep file; None if it has none.

    Raises:
        RecipeError: a key is unknown, or its value impossible.
    """
    if table is None:
        return None
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: halving is {shown(table)}, expected a table [halving]")
    rungs = table.pop("rungs", None)
    other: HalvingTable = build(HalvingTable, table, where=f"{where} [halving]")
    ascending = isinstance(rungs, list) and all(type(rung) is int for rung in rungs)
    if not ascending or not rungs or rungs[0] < 1 or sorted(set(rungs)) != rungs:
        raise RecipeError(
            f"{where}: rungs in [halving] is {shown(rungs)}, expected ascending numbers of "
            "epochs or steps, e.g. [1, 2, 4]"
        )
    if not 0 < other.keep < 1:
        raise RecipeError(f"{where}: keep in [halving] is {other.keep}, expected e.g. 0.5")
    return Halving(tuple(rungs), other.unit, other.keep, other.by, other.mode)
