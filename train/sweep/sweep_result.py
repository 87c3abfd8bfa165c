"""The result of a sweep: figures of every member, and their means over seeds with intervals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from epalm.model.checkpoints.run_record import METRICS_FILE
from epalm.portable_path import to_portable
from epalm.train.sweep.halving import Halving, quality
from epalm.train.sweep.planned_members import PlannedMember
from epalm.train.sweep.sweep_file import LOCATIONS, Settings
from epalm.train.sweep.sweep_state import MEMBERS, SweepState
from epalm.train.sweep.validation_lines import best_validation, read_validations

STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""Quantile 0.975 of Student's t distribution for 1, 2, ... degrees of freedom."""

Status = Literal["finished", "given up", "failed"]


@dataclass(frozen=True)
class MemberResult:
    """Result of a member.

    Attributes:
        name: name of its run folder.
        settings: settings in which it differs from the base, with portable locations.
        status: whether it was trained to its end.
        step: optimizer steps done.
        steps: optimizer steps of the whole training.
        epoch: best epoch so far; 0 before the first validation.
        figures: validation of the best epoch, or at the rung where it was given up before it.
        error: why it failed, or empty.
    """

    name: str
    settings: Settings
    status: Status
    step: int
    steps: int
    epoch: int
    figures: Mapping[str, float]
    error: str = ""

    @property
    def group(self) -> str:
        """The settings without the seed, as text."""
        return json.dumps({key: value for key, value in self.settings.items() if key != "seed"})


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds.

    Attributes:
        mean: mean.
        low: lower end of its 95 % interval by Student's t distribution; None for one seed.
        high: upper end; None for one seed.
    """

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Group:
    """Members that differ in the seed alone.

    Attributes:
        settings: their settings without the seed.
        members: names of all of them.
        finished: number of those that were trained to their end.
        figures: name -> mean over the finished ones.
    """

    settings: Settings
    members: tuple[str, ...]
    finished: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep.

    Attributes:
        members: results in the order of the sweep file.
        groups: members that differ in the seed alone, best first.
        by: figure that they are compared by.
        best: the finished member with the best figure; empty if none is finished.
    """

    members: tuple[MemberResult, ...]
    groups: tuple[Group, ...]
    by: str
    best: str


def sweep_result(
    planned: Sequence[PlannedMember],
    halving: Halving | None,
    *,
    folder: Path,
    state: SweepState,
    given_up: Mapping[str, int],
    failed: Mapping[str, str],
) -> SweepResult:
    """Collect the figures of all members from their run folders.

    Args:
        planned: the members.
        halving: how they were compared; None if all were trained to their end.
        folder: folder of the sweep.
        state: progress of the sweep, with the figures at rungs.
        given_up: member -> step where it was given up.
        failed: member -> why it failed.
    """
    by, mode = (halving.by, halving.mode) if halving else ("", "auto")
    members = tuple(
        _member(
            one,
            folder,
            error=failed.get(one.name, ""),
            step=given_up.get(one.name),
            at_rung=state.figures(one.name, given_up.get(one.name, 0)) or {},
        )
        for one in planned
    )
    finished = [one for one in members if one.status == "finished"]

    def score(figures: Mapping[str, float]) -> float:
        return quality(figures, by, mode)

    best = max(finished, key=lambda one: score(one.figures), default=None)
    name = by or (next(iter(best.figures)) if best else "")
    groups = _groups(members)
    ranked = sorted(
        groups,
        key=lambda one: score({name: one.figures[name].mean}) if one.finished else float("-inf"),
        reverse=True,
    )
    return SweepResult(members, tuple(ranked), name, best.name if best else "")


def _member(
    one: PlannedMember,
    folder: Path,
    *,
    error: str,
    step: int | None,
    at_rung: Mapping[str, float],
) -> MemberResult:
    """The result of a member, which was given up at `step`, where it had the figures `at_rung`."""
    name = one.name
    lines = read_validations(folder / MEMBERS / name / METRICS_FILE)
    best = best_validation(lines)
    status: Status = "failed" if error else "given up" if step is not None else "finished"
    last = lines[-1].step if lines else 0
    return MemberResult(
        name=name,
        settings={key: _portable(key, value, folder) for key, value in one.member.settings.items()},
        status=status,
        step=last if step is None else step,
        steps=one.steps,
        epoch=best.epoch if best else 0,
        figures=best.figures if best else at_rung,
        error=error.replace(f"{folder}/", "").replace(f"{folder.resolve()}/", ""),
    )


def _portable(key: str, value: object, folder: Path) -> object:
    return to_portable(str(value), folder) if key in LOCATIONS else value


def _groups(members: Sequence[MemberResult]) -> list[Group]:
    by_settings: dict[str, list[MemberResult]] = {}
    for one in members:
        by_settings.setdefault(one.group, []).append(one)
    return [_group(listed) for listed in by_settings.values()]


def _group(members: Sequence[MemberResult]) -> Group:
    finished = [one for one in members if one.status == "finished"]
    names = dict.fromkeys(name for one in finished for name in one.figures)
    figures = {
        name: estimate([one.figures[name] for one in finished if name in one.figures])
        for name in names
    }
    settings = {key: value for key, value in members[0].settings.items() if key != "seed"}
    return Group(settings, tuple(one.name for one in members), len(finished), figures)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of the values of several seeds, with its interval if there are at least two."""
    middle = mean(values)
    if len(values) < 2:
        return Estimate(middle, None, None)
    freedom = len(values) - 1
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.5 / freedom
    half = quantile * stdev(values) / sqrt(len(values))
    return Estimate(middle, middle - half, middle + half)


def as_json(result: SweepResult) -> dict[str, Any]:
    """The content of sweep.json."""
    return {
        "by": result.by,
        "best": result.best,
        "groups": [
            {
                "settings": dict(one.settings),
                "members": list(one.members),
                "finished": one.finished,
                "figures": {name: vars(value) for name, value in one.figures.items()},
            }
            for one in result.groups
        ],
        "members": [
            {
                "name": one.name,
                "folder": f"{MEMBERS}/{one.name}",
                "settings": dict(one.settings),
                "status": one.status,
                "step": one.step,
                "steps": one.steps,
                "epoch": one.epoch or None,
                "figures": dict(one.figures),
                "error": one.error or None,
            }
            for one in result.members
        ],
    }
