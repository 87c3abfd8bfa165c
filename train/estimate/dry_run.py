"""`epalm-train --dry-run`: whether a run fits its device, without reading any weights."""

from rich.table import Table

from epalm.cache.store import Store
from epalm.console import byte_size, say, show_table
from epalm.errors import ModelError
from epalm.train.config.train_config import TrainConfig
from epalm.train.data.datasets import choose_source, draw_validation, select_data
from epalm.train.data.text_encoding import fitting_texts
from epalm.train.estimate.memory_advice import MemoryInputs, make_setup, suggestions
from epalm.train.estimate.memory_estimate import USABLE, MemoryPlan
from epalm.train.lr_schedule import warn_of_long_warmup
from epalm.train.parallel.weight_sharding import layer_sharder
from epalm.train.run_training import check_request, settle_precision

SHOWN = 5
"""Suggestions that are printed."""


def show_plan(request: TrainConfig) -> None:
    """Print what the run takes of each process's device, and whether it fits.

    Raises:
        ModelError: it does not fit; what would has been printed. Or see `fitting_texts`.
    """
    store = Store.open(request.features)
    request = settle_precision(request, store.spec)
    check_request(request, store.spec)
    if request.shard:
        layer_sharder(request.group, request.device, request.recipe)
    examples, val_examples, selection = select_data(request, store)
    choice, _ = choose_source(request, selection)
    settings = request.recipe.model_settings(request.task.kind, store.spec)
    asked = draw_validation(val_examples, request.recipe, request.seed)
    texts = fitting_texts(request, settings, examples, asked)
    setup = make_setup(request, settings, texts, examples)
    resident = choice.reader == "gpu" or (choice.reader == "ram" and setup.placing.cpu)
    stored = selection.requirements(request.recipe.batch_size).nbytes if resident else 0
    plan = setup.plan(stored)
    if request.group.leads:
        warn_of_long_warmup(request.recipe, len(examples))
        _show(request, setup, plan, choice.summary)
    if plan.fits:
        return
    if request.group.leads:
        _advise(setup, request.recipe.batch_size, stored)
    raise ModelError(
        f"the run takes {byte_size(plan.total)} of {request.device}, {USABLE:.0%} of "
        f"{byte_size(plan.free)} can be filled: make it smaller, or use a larger device"
    )


def _show(request: TrainConfig, setup: MemoryInputs, plan: MemoryPlan, reader: str) -> None:
    load, processes = setup.load, request.group.world
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for label, count in plan.parts.items():
        table.add_row(label, byte_size(count))
    table.add_row("total", byte_size(plan.total), style="bold")
    table.add_row(f"free on {request.device}", byte_size(plan.free))
    say(
        f"{request.recipe.lm}, {request.recipe.variant}: {load.samples} examples a step in each of "
        f"{processes} processes, {load.text_rows} tokens, the longest text has {load.longest}",
    )
    say(reader)
    show_table(table)
    if plan.fits:
        say("fits")


def _advise(setup: MemoryInputs, batch_size: int, stored: int) -> None:
    found = suggestions(setup, batch_size, stored)
    if not found:
        say("does not fit, nor would any three of the usual changes make it")
        return
    say("does not fit; it would with one of")
    for options, plan in found[:SHOWN]:
        say(f"  {options}  ({byte_size(plan.total)})")
