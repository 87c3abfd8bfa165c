"""`epalm-train --dry-run`: whether a run fits its device, without reading any weights."""

from collections.abc import Sequence

from rich.table import Table

from epalm.console import byte_size, say, say_json, show_table
from epalm.errors import ModelError
from epalm.train.config.lr_schedule import warn_of_long_warmup
from epalm.train.config.recipe import Recipe
from epalm.train.estimate.memory_advice import suggestions
from epalm.train.estimate.memory_estimate import USABLE, MemoryPlan
from epalm.train.estimate.run_plan import plan_run
from epalm.train.estimate.step_memory import StepShape
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig

SHOWN = 5
"""Largest number of suggestions that are printed."""


def report_dry_run(
    data: DataConfig, model: ModelConfig, runtime: RuntimeConfig, *, as_json: bool = False
) -> None:
    """Print the memory that the run requires on each process's device, and whether it fits.

    Args:
        data: what to train on.
        model: what to train.
        runtime: where and how.
        as_json: print one line of JSON instead of a table.

    Raises:
        ModelError: the run does not fit into memory, and smaller runs that fit have been printed;
            or a text does not fit the language model.
    """
    planned = plan_run(data, model, runtime)
    recipe, group, inputs = planned.model.recipe, runtime.group, planned.inputs
    plan = inputs.plan()
    if group.leads:
        warn_of_long_warmup(recipe, len(planned.selection.train))
        fitting = [] if plan.fits else suggestions(inputs, recipe.batch_size)[:SHOWN]
        if as_json:
            say_json(_as_json(runtime, inputs.load, plan, fitting))
        else:
            _show_plan(recipe, runtime, inputs.load, plan, reader=planned.choice.summary)
    if plan.fits:
        return
    if group.leads and not as_json:
        _advise(fitting)
    raise ModelError(
        f"the run requires {byte_size(plan.total)} of {runtime.device}, {USABLE:.0%} of "
        f"{byte_size(plan.free)} can be filled: make it smaller, or use a larger device"
    )


def _show_plan(
    recipe: Recipe, runtime: RuntimeConfig, load: StepShape, plan: MemoryPlan, *, reader: str
) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for label, count in plan.parts.items():
        table.add_row(label, byte_size(count))
    table.add_row("total", byte_size(plan.total), style="bold")
    table.add_row(f"free on {runtime.device}", byte_size(plan.free))
    say(
        f"{recipe.lm}, {recipe.variant}: {load.samples} examples a step in each of "
        f"{runtime.group.world_size} processes, {load.text_tokens} tokens, the longest text has "
        f"{load.longest}",
    )
    say(reader)
    show_table(table)
    if plan.fits:
        say("fits")


def _as_json(
    runtime: RuntimeConfig,
    load: StepShape,
    plan: MemoryPlan,
    fitting: Sequence[tuple[str, MemoryPlan]],
) -> dict[str, object]:
    return {
        "device": runtime.device,
        "processes": runtime.group.world_size,
        "fits": plan.fits,
        "bytes": dict(plan.parts),
        "total_bytes": plan.total,
        "free_bytes": plan.free,
        "examples_per_step": load.samples,
        "text_tokens_per_step": load.text_tokens,
        "longest_text": load.longest,
        "would_fit": [
            {"options": options, "total_bytes": smaller.total} for options, smaller in fitting
        ],
    }


def _advise(fitting: Sequence[tuple[str, MemoryPlan]]) -> None:
    if not fitting:
        say("does not fit, nor would any three of the usual changes make it")
        return
    say("does not fit; it would with one of")
    for options, plan in fitting:
        say(f"  {options}  ({byte_size(plan.total)})")
