"""The examples of a run and the stored features of their samples."""

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import numpy as np

from epalm.cache.maintenance.media_check import warn_about_changed_media
from epalm.cache.readers.encoded_examples import encoded_examples
from epalm.cache.readers.epoch_order import ShuffleSpec
from epalm.cache.readers.joined.joined_stores import (
    AnyIndex,
    AnySubset,
    JoinedStores,
    in_all_stores,
)
from epalm.cache.readers.reader_choice import (
    TRAIN_READERS,
    Budget,
    ReaderChoice,
    choose_reader,
    ram_budget,
)
from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.errors import UnknownKeyError
from epalm.model.engine.language_model import load_config
from epalm.tasks.types import Example
from epalm.train.config.recipe import Recipe
from epalm.train.data.batch_loader import AnySource
from epalm.train.data.gpu_source import gpu_budget, load_resident
from epalm.train.data.part_check import check_parts
from epalm.train.data.shared_parts import SharedParts
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Examples of a run, before any feature is read.

    Attributes:
        train: training examples whose sample could be encoded.
        candidates: examples of the validation split whose sample could be encoded.
        val: those of `candidates` that every validation generates for.
        subset: part of the store with the features of `train` and `candidates`.
    """

    train: list[Example]
    candidates: list[Example]
    val: list[Example]
    subset: AnySubset


@dataclass(frozen=True)
class Data:
    """Examples of a run and the features of their samples.

    Attributes:
        train: training examples, all with features.
        val: validation examples, all with features.
        source: features of both.
        order: how epochs are shuffled.
    """

    train: list[Example]
    val: list[Example]
    source: AnySource
    order: ShuffleSpec

    def digest(self) -> str:
        """SHA-256 over every example: a resumed run has to continue with the same ones."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            digest.update(b"%d\n" % len(part))
            for example in part:
                digest.update(repr(example).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def open_data(
    data: DataConfig,
    model: ModelConfig,
    runtime: RuntimeConfig,
    *,
    stores: JoinedStores,
    recorded: ShuffleSpec | None,
    shared: SharedParts | None = None,
) -> Data:
    """Load the examples of a run and open the features of their samples.

    Args:
        data: store, task and which of its examples to use.
        model: recipe and seed of the run.
        runtime: device, reader and processes.
        stores: stores that `data` names, open.
        recorded: order that the run to resume was started with; None for a new run.
        shared: parts that earlier trainings in this process have loaded; None for none.

    Raises:
        ModelError: `load_config` refuses the language model.
        UnfinishedStoreError: the store misses shards.
        UnknownKeyError: the store lacks a sample of the task.
        UsageError: the reader is unknown or cannot work.
    """
    recipe, seed, shared = model.recipe, model.seed, shared or SharedParts()
    selection = select_data(data, model, stores, resumed=recorded is not None, shared=shared)
    # A store that does not fit is reported before the hub is contacted, and both before features
    # are read.
    load_config(recipe.lm, recipe.lm_precision)
    parts = (selection.train, selection.candidates)
    groups = [[example.key for example in part] for part in parts]
    source, order = shared.source.get(
        (stores.identity, runtime.device, runtime.reader, groups),
        partial(_open_source, runtime, selection.subset, recipe.batch_size, recorded),
        fits=lambda opened: recorded in (None, opened[1]),
    )
    if runtime.group.leads:
        rows = selection.subset.index.rows([key for group in groups for key in group])
        for store, own in stores.own_rows(selection.subset.index, rows):
            warn_about_changed_media(store, own, root=str(data.root), seed=seed)
    if data.blind:
        source = ShuffledSource(source, groups, seed)
    return Data(selection.train, selection.val, source, order)


def select_data(
    data: DataConfig,
    model: ModelConfig,
    stores: JoinedStores,
    *,
    resumed: bool = False,
    shared: SharedParts | None = None,
) -> Selection:
    """Training and validation examples, and the part of the store that has their features.

    Args:
        data: task, and which of its examples to use.
        model: recipe and seed of the run.
        stores: the stores, in the generation that is trained on.
        resumed: whether a run is resumed, which leaves out samples that were added to the store
            after it had started.
        shared: parts that earlier trainings in this process have loaded; None for none.

    Raises:
        UnknownKeyError: the store lacks a sample of the task.
        UsageError: a store that is part of one dataset was named by mistake, see `check_parts`.
    """
    task, recipe, kept = data.task, model.recipe, (shared or SharedParts()).examples
    index = stores.index(task.name)
    later = index.later if resumed else frozenset()

    def read(split: str) -> list[Example]:
        key = (stores.identity, later, data, split)
        examples: list[Example] = kept.get(key, lambda: _examples(data, split, index, later))
        return examples

    training = read(recipe.train_split or task.train_split)
    train = draw_training(training, recipe, model.seed)
    candidates = read(recipe.val_split or task.val_split)
    check_parts(data, stores, index, (training, candidates), resumed=resumed)
    keys = [example.key for example in (*train, *candidates)]
    val = _draw(candidates, recipe.val_examples, model.seed)
    return Selection(train, candidates, val, stores.select(index, keys=keys))


def draw_training(examples: list[Example], recipe: Recipe, seed: int) -> list[Example]:
    """The training examples in their order: all, or the recipe's number of them, drawn by seed.

    A smaller draw is a subset of a larger one, so that curves over amounts of data differ in the
    amount alone.
    """
    count = recipe.train_examples or max(1, round(recipe.train_fraction * len(examples)))
    drawn = _draw(examples, count, seed)
    if len(drawn) < len(examples):
        logger.info("%d of %d training examples drawn, seed %d", len(drawn), len(examples), seed)
    return drawn


def choose_source(
    runtime: RuntimeConfig, subset: AnySubset, batch_size: int, recorded: ShuffleSpec | None
) -> tuple[ReaderChoice, Budget]:
    """The reader that the runtime names, or the fastest that memory allows, and its order.

    Processes on one machine divide its memory; all of them follow the order of rank 0.

    Args:
        runtime: device, reader and processes.
        subset: part of the store that is read.
        batch_size: examples per step.
        recorded: order of the run to resume; None for a new run.
    """
    reader, group = runtime.reader, runtime.group
    ram = ram_budget(reader) // group.local_world_size
    budget = Budget(ram, gpu_budget(runtime.device, reader))
    need = subset.requirements(batch_size)
    choice = choose_reader(reader, need, budget, readers=TRAIN_READERS, order=recorded)
    common = group.gather(choice.order)[0]
    if choice.order != common:
        choice = choose_reader(reader, need, budget, readers=TRAIN_READERS, order=common)
    return choice, budget


def _open_source(
    runtime: RuntimeConfig, subset: AnySubset, batch_size: int, recorded: ShuffleSpec | None
) -> tuple[AnySource, ShuffleSpec]:
    """Features of the subset, and the order that their reader follows; see `choose_source`."""
    choice, budget = choose_source(runtime, subset, batch_size, recorded)
    logger.info("%s", choice.summary)
    if choice.reader == "gpu":
        return load_resident(subset, runtime.device), choice.order
    return subset.open(choice.reader, budget.ram), choice.order


def _examples(
    data: DataConfig, split: str, index: AnyIndex, later: Collection[str]
) -> list[Example]:
    """The encoded examples of a split, without those of the samples `later`."""
    listed = data.task.examples(split, data.root)
    examples = [example for example in listed if example.key not in later] if later else listed
    if len(examples) < len(listed):
        logger.info(
            "%s: %d of %d examples left out, their samples were added after the run had started",
            split,
            len(listed) - len(examples),
            len(listed),
        )
    if data.common:
        examples = in_all_stores(examples, index, split)
    if data.limit:
        examples = examples[: data.limit]
    try:
        encoded = encoded_examples(examples, index)
    except UnknownKeyError as error:
        raise UnknownKeyError(f"{split} in {data.root}: {error}") from None
    if len(encoded) < len(examples):
        logger.warning(
            "%s: %d of %d examples left out, their sample could not be encoded",
            split,
            len(examples) - len(encoded),
            len(examples),
        )
    return encoded


def _draw(examples: list[Example], count: int, seed: int) -> list[Example]:
    if not 0 < count < len(examples):
        return examples
    positions = np.random.default_rng(seed).permutation(len(examples))[:count]
    return [examples[position] for position in sorted(positions)]
