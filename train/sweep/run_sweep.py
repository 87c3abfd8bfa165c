"""Trains the members of a sweep one after the other, with all that they share loaded once."""

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from epalm.errors import EpalmError, RunFolderError, Stopped
from epalm.model.checkpoints.run_record import METRICS_FILE
from epalm.train.data.shared_parts import SharedParts
from epalm.train.run_files.run_folder import writes_named
from epalm.train.run_files.run_lock import locked
from epalm.train.run_training import PreparedRun, prepared
from epalm.train.sweep.halving import Halving
from epalm.train.sweep.planned_members import Place, PlannedMember, plan_members
from epalm.train.sweep.sweep_file import SweepFile
from epalm.train.sweep.sweep_report import write_result
from epalm.train.sweep.sweep_result import SweepResult, sweep_result
from epalm.train.sweep.sweep_state import SweepState, load_sweep_state
from epalm.train.sweep.validation_lines import read_validations
from epalm.train.trainer import fit

logger = logging.getLogger(__name__)

_FAILURES = (EpalmError, RuntimeError, MemoryError)
"""What fails a member alone; `torch.OutOfMemoryError` is a RuntimeError."""


@dataclass
class SweepRun:
    """A sweep that is being trained.

    Attributes:
        place: folder and device.
        state: progress, which is saved after every part of a training.
        shared: parts that the members have in common.
        failed: member -> why it failed.
        started: members that were trained in this process.
    """

    place: Place
    state: SweepState
    shared: SharedParts = field(default_factory=lambda: SharedParts(planned=True))
    failed: dict[str, str] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)


def train_members(
    members: Sequence[PlannedMember], halving: Halving | None, run: SweepRun
) -> dict[str, int]:
    """Train all members to their end, or rung by rung.

    A member that fails is noted in `run.failed`, and the others are trained.

    Returns:
        The members that were given up -> the step where they were.

    Raises:
        Stopped: a signal arrived; the same call resumes.
        UsageError: the validation does not have the figure that members are compared by.
    """
    left, given_up = list(members), dict[str, int]()
    if halving is not None:
        for rung in halving.rungs:
            steps = {one.name: _step(halving, rung, one) for one in left}
            kept = _train_rung(left, steps, halving, run)
            logger.info("kept after %d %s: %s", rung, halving.unit, ", ".join(kept) or "no member")
            given_up |= {name: steps[name] for name in steps if name not in (*kept, *run.failed)}
            left = [one for one in left if one.name in kept]
    for one in _in_order(left):
        _train_to(one, one.steps, run)
    # a member that had all its steps at a rung is finished, whatever its figure there
    return {name: step for name, step in given_up.items() if name not in run.state.finished}


def _train_rung(
    members: Sequence[PlannedMember], steps: Mapping[str, int], halving: Halving, run: SweepRun
) -> list[str]:
    """Train members to their steps; the names of those that are kept, best first."""
    reached: dict[str, Mapping[str, float]] = {}
    for one in _in_order(members):
        figures = _train_to(one, steps[one.name], run)
        if figures is not None:
            halving.check_figure(figures)
            reached[one.name] = figures
    in_file_order = [one.name for one in members if one.name in reached]
    return halving.survivors({name: reached[name] for name in in_file_order}) if reached else []


def _step(halving: Halving, rung: int, one: PlannedMember) -> int:
    return halving.step(rung, steps_per_epoch=one.steps_per_epoch, epochs=one.model.recipe.epochs)


def _in_order(members: Sequence[PlannedMember]) -> list[PlannedMember]:
    """Members with the same language model, then with the same store, one after the other."""

    def parts(one: PlannedMember) -> tuple[str, ...]:
        recipe, data = one.model.recipe, one.data
        return recipe.lm, recipe.lm_precision, data.features, *data.joined

    order = list(dict.fromkeys(map(parts, members)))
    return sorted(members, key=lambda one: order.index(parts(one)))


def _train_to(one: PlannedMember, step: int, run: SweepRun) -> Mapping[str, float] | None:
    """Train a member up to a step, and note its figures; None if it fails or has failed."""
    name, state = one.name, run.state
    known = state.figures(name, step)
    if name in run.failed:
        return None
    if known is not None and (step < one.steps or name in state.finished):
        return known
    logger.info("member %s, up to step %d of %d", name, step, one.steps)
    try:
        figures = _advance(one, step, run)
    except Stopped:
        raise
    except _FAILURES as error:
        run.failed[name] = _reason(error)
        logger.warning("member %s failed: %s", name, run.failed[name])
        run.shared.clear()
        _free_memory()
        return None
    state.note(name, step, figures)
    if step >= one.steps and name not in state.finished:
        state.finished += (name,)
    state.save(run.place.folder)
    return figures


def _advance(one: PlannedMember, step: int, run: SweepRun) -> Mapping[str, float]:
    fresh = run.place.fresh and one.name not in run.started
    with prepared(one.data, one.model, replace(one.runtime, fresh=fresh), run.shared) as training:
        run.started.add(one.name)
        progress = fit(training.trainer, step)
        if progress.step >= one.steps:
            training.finish()
        return _figures(training, step)


def _figures(training: PreparedRun, step: int) -> Mapping[str, float]:
    """The validation at a step: a logged one, or a new one in the middle of an epoch."""
    trainer = training.trainer
    for line in read_validations(trainer.folder / METRICS_FILE):
        if line.step == step:
            return line.figures
    if trainer.progress.step != step:
        raise RunFolderError(
            f"{trainer.folder} is at step {trainer.progress.step}, and the sweep has no figures of "
            f"step {step}: start over with --fresh, or choose rungs that it has validated at"
        )
    return trainer.validate()


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    known = isinstance(error, EpalmError)
    return text if known else f"{type(error).__name__}: {text}"[:500]


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def sweep_members(sweep: SweepFile, place: Place) -> SweepResult:
    """Check, plan and train all members of a sweep, or resume it, and write its result.

    Raises:
        EpalmError: settings of a member cannot be used; nothing is trained then.
        RunFolderError: another process trains in the folder, or it cannot be written.
        Stopped: a signal arrived; the same call resumes.
    """
    planned = plan_members(sweep, place)
    with writes_named(place.folder):
        place.folder.mkdir(parents=True, exist_ok=True)
    with locked(place.folder, run=place.folder):
        state = SweepState() if place.fresh else load_sweep_state(place.folder)
        run = SweepRun(place, state)
        given_up = train_members(planned, sweep.halving, run)
        result = sweep_result(
            planned,
            sweep.halving,
            folder=place.folder,
            state=state,
            given_up=given_up,
            failed=run.failed,
        )
        write_result(place.folder, result)
    return result
