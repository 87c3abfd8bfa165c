"""Every member of a sweep as a training, with its settings checked before anything is trained."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from epalm.console import byte_size
from epalm.errors import EpalmError, UsageError
from epalm.train.data.shared_parts import Kept, SharedParts
from epalm.train.estimate.memory_estimate import USABLE, MemoryPlan
from epalm.train.estimate.rough_cost import step_operations
from epalm.train.estimate.run_plan import plan_run
from epalm.train.options.command_options import TrainOptions
from epalm.train.options.preflight_checks import check_text_states
from epalm.train.options.resolve_options import resolve_options
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.run_files.run_claim import recorded_recipe
from epalm.train.run_files.run_folder import earlier_run
from epalm.train.sweep.sweep_file import OPTIONS, Member, Settings, SweepFile
from epalm.train.sweep.sweep_state import MEMBERS
from epalm.train.trainer import LOG_STEPS

logger = logging.getLogger(__name__)

RATES = ("lr", "prompt_lr", "adapter_lr", "lm_lr", "weight_decay", "label_smoothing", "clip_norm")
"""Recipe keys that change no memory."""


@dataclass(frozen=True)
class PlannedMember:
    """A member as a training.

    Attributes:
        member: name and settings.
        data: what it is trained on.
        model: what is trained.
        runtime: where and how.
        steps_per_epoch: optimizer steps of an epoch.
        memory: planned memory.
        operations: rough number of operations of a step.
    """

    member: Member
    data: DataConfig
    model: ModelConfig
    runtime: RuntimeConfig
    steps_per_epoch: int
    memory: MemoryPlan
    operations: float

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return self.member.name

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.steps_per_epoch * self.model.recipe.epochs


@dataclass(frozen=True)
class Place:
    """Where and how a sweep is executed.

    Attributes:
        folder: folder of the sweep.
        device: device, or "auto".
        fresh: whether runs that are there are deleted.
        quiet: show no progress.
    """

    folder: Path
    device: str
    fresh: bool = False
    quiet: bool = False


def plan_members(sweep: SweepFile, place: Place) -> list[PlannedMember]:
    """Check and plan every member; no weights are read.

    Raises:
        EpalmError: a member's settings cannot be used, its weights do not fit into memory, or its
            run folder has a run with other settings; names the member.
    """
    if sweep.halving is not None:
        sweep.halving.check_rungs(LOG_STEPS)
    shared, kept = SharedParts(), Kept(2 * len(sweep.members))
    planned = []
    for member in sweep.members:
        try:
            one = _plan(sweep.base, member, place, shared, kept)
            if not place.fresh:
                _check_same(one)
            one.memory.check_weights()
        except EpalmError as error:
            raise type(error)(f"member {member.name}: {error}") from error
        planned.append(one)
    _warn_of_memory(planned)
    return planned


def _plan(
    base: Settings, member: Member, place: Place, shared: SharedParts, kept: Kept
) -> PlannedMember:
    settings = {**base, **member.settings}
    folder = settings.pop("text_states", None)
    options = _options(settings, member.name, place)
    if not options.features:
        raise UsageError('the sweep file must name a store, e.g. features = "cache/coco.zarr"')
    data, model, runtime = resolve_options(options, options.features)
    if runtime.group.world_size > 1:
        raise UsageError(
            "a sweep trains in one process: start it without torchrun, one sweep for each device"
        )
    key = (data, _without_rates(model), model.seed * _seed_matters(model))
    needs: _Needs = kept.get(key, lambda: _needs(data, model, runtime, shared))
    if folder is not None and needs.text_states_constant and _may_cache(model):
        runtime = replace(runtime, text_states=Path(str(folder)))
        needs = kept.get((*key, folder), lambda: _needs(data, model, runtime, shared))
    elif folder is not None:
        logger.info("%s computes all text states: its training changes them", member.name)
    batches = -(-needs.examples // model.recipe.batch_size)
    return PlannedMember(member, data, model, runtime, batches, needs.memory, needs.operations)


@dataclass(frozen=True)
class _Needs:
    """What the plan of a run says, without the plan's examples and shapes."""

    examples: int
    memory: MemoryPlan
    operations: float
    text_states_constant: bool


def _needs(
    data: DataConfig, model: ModelConfig, runtime: RuntimeConfig, shared: SharedParts
) -> _Needs:
    plan = plan_run(data, model, runtime, shared)
    return _Needs(
        len(plan.selection.train),
        plan.inputs.plan(),
        step_operations(plan.inputs, cached_text_states=runtime.text_states is not None),
        plan.inputs.model.can_cache_text_states,
    )


def _options(settings: Settings, name: str, place: Place) -> TrainOptions:
    """The options of `epalm-train` that train the same run."""
    named: dict[str, Any] = {key: value for key, value in settings.items() if key in OPTIONS}
    if isinstance(named.get("features"), str):
        named["features"] = [named["features"]]
    if root := named.get("data_root"):
        named["data_root"] = Path(root)
    return TrainOptions(
        **named,
        changes=[_change(key, value) for key, value in settings.items() if key not in OPTIONS],
        name=name,
        out=place.folder / MEMBERS,
        device=place.device,
        fresh=place.fresh,
        quiet=place.quiet,
    )


def _change(key: str, value: object) -> str:
    """A change of a recipe as it is written after --set."""
    return f"{key}={tomli_w.dumps({'value': value}).partition('=')[2].strip()}"


def _without_rates(model: ModelConfig) -> object:
    same = dict.fromkeys(RATES, 0.0)
    return {**asdict(model.recipe), **same, "schedule": None}


def _seed_matters(model: ModelConfig) -> bool:
    """Whether the seed draws the examples."""
    recipe = model.recipe
    return bool(recipe.val_examples or recipe.train_examples or recipe.train_fraction < 1)


def _may_cache(model: ModelConfig) -> bool:
    """Whether the recipe alone allows cached text states."""
    try:
        check_text_states(model.recipe)
    except UsageError:
        return False
    return True


def _check_same(planned: PlannedMember) -> None:
    """Refuse a member whose run folder has a run with other settings or on another store.

    The rest of its record is compared when the run is resumed.
    """
    folder = planned.runtime.folder
    _, record = earlier_run(folder, planned.data.open_stores(), fresh=False)
    if record is None:
        return
    recipe = asdict(recorded_recipe(folder))
    given = asdict(planned.model.recipe)
    open_keys = {"lm", "lm_precision"}
    differing = [key for key in given if key not in open_keys and given[key] != recipe[key]]
    if (record.seed, record.blind) != (planned.model.seed, planned.data.blind):
        differing.append("seed or blind")
    if differing:
        raise UsageError(
            f"{folder} was trained with other settings ({', '.join(differing)} differ): give the "
            "member another name, or start over with --fresh"
        )


def _warn_of_memory(planned: Sequence[PlannedMember]) -> None:
    largest = max(planned, key=lambda one: one.memory.total)
    if not largest.memory.fits:
        logger.warning(
            "%s requires %s, %.0f %% of %s can be filled: it may fail, the others are trained",
            largest.name,
            byte_size(largest.memory.total),
            100 * USABLE,
            byte_size(largest.memory.free),
        )
