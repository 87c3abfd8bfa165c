"""The examples and the stored vectors of a run."""

import hashlib
import logging
from dataclasses import dataclass

import numpy as np

from epalm.cache.media_check import warn_about_changed_media
from epalm.cache.readers.epoch_order import ShuffleSpec
from epalm.cache.readers.feature_source import KeyIndex
from epalm.cache.readers.open_reader import StoreSubset, index_store, select_subset
from epalm.cache.readers.reader_choice import (
    TRAIN_READERS,
    Budget,
    ReaderChoice,
    choose_reader,
    ram_budget,
)
from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.cache.store import Store
from epalm.errors import UnknownKeyError
from epalm.model.engine.language_model import load_config
from epalm.tasks.types import Example
from epalm.train.config.recipe import Recipe
from epalm.train.config.train_config import TrainConfig
from epalm.train.data.batch_loader import AnySource, encodable
from epalm.train.data.gpu_source import gpu_budget, load_resident
from epalm.train.run_files.run_folder import earlier_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """What a run learns from and is judged by.

    Attributes:
        train: examples, all readable.
        val: likewise; the ones drawn for validation.
        source: the vectors of both.
        order: how epochs are shuffled.
    """

    train: list[Example]
    val: list[Example]
    source: AnySource
    order: ShuffleSpec

    def digest(self) -> str:
        """SHA-256 over every example: a run that goes on has to go on with the same."""
        found = hashlib.sha256()
        for part in (self.train, self.val):
            found.update(b"%d\n" % len(part))
            for example in part:
                found.update(repr(example).encode("utf-8", "surrogatepass"))
        return found.hexdigest()


def open_data(request: TrainConfig, store: Store) -> Data:
    """Examples and vectors; a run that goes on keeps the order it began with.

    Raises:
        CacheMismatchError: the run to go on was trained on another store.
        ModelError: see `load_config`.
        UnfinishedStoreError: the store misses shards.
        UnknownKeyError: the store lacks a medium of the task.
        UsageError: the reader asked for is unknown or cannot work.
    """
    train_examples, val_examples, selection = select_data(request, store)
    # A store that does not fit is said before the hub is asked, and both before vectors are read.
    load_config(request.recipe.lm, request.recipe.lm_precision)
    source, order = _open_source(request, selection)
    groups = [[example.key for example in part] for part in (train_examples, val_examples)]
    if request.group.leads:
        rows = selection.index.rows([key for group in groups for key in group])
        warn_about_changed_media(store, rows, root=str(request.data_root), seed=request.seed)
    if request.blind:
        source = ShuffledSource(source, groups, request.seed)
    drawn = draw_validation(val_examples, request.recipe, request.seed)
    return Data(train_examples, drawn, source, order)


def select_data(
    request: TrainConfig, store: Store
) -> tuple[list[Example], list[Example], StoreSubset]:
    """Training and validation examples, and the part of the store that has their vectors."""
    task, recipe = request.task, request.recipe
    index = index_store(store, task.name)
    learnt = _examples(request, recipe.train_split or task.train_split, index)
    train_examples = draw_training(learnt, recipe, request.seed)
    val_examples = _examples(request, recipe.val_split or task.val_split, index)
    keys = [example.key for example in (*train_examples, *val_examples)]
    return train_examples, val_examples, select_subset(store, index, keys=keys)


def draw_training(examples: list[Example], recipe: Recipe, seed: int) -> list[Example]:
    """The examples to learn, in their order: all, or as many as the recipe says, drawn by seed.

    Fewer are a part of more, so that curves over amounts of data differ in the amount alone.
    """
    asked = recipe.train_examples or max(1, round(recipe.train_fraction * len(examples)))
    drawn = _draw(examples, asked, seed)
    if len(drawn) < len(examples):
        logger.info("%d of %d training examples drawn, seed %d", len(drawn), len(examples), seed)
    return drawn


def draw_validation(examples: list[Example], recipe: Recipe, seed: int) -> list[Example]:
    """The examples that every epoch is judged by: all, or as many as the recipe says."""
    return _draw(examples, recipe.val_examples, seed)


def choose_source(request: TrainConfig, selection: StoreSubset) -> tuple[ReaderChoice, Budget]:
    """The fastest reader that memory allows, or the one asked for, and the order it serves.

    Processes on one machine divide its memory; all serve the order of the first one.
    """
    asked, group = request.reader, request.group
    earlier = earlier_run(request.folder, selection.store.spec, fresh=request.fresh)
    order = ShuffleSpec(earlier.order, earlier.pool_blocks) if earlier else None
    ram = ram_budget(asked) // group.local_world
    budget = Budget(ram, gpu_budget(request.device, asked))
    need = selection.requirements(request.recipe.batch_size)
    choice = choose_reader(asked, need, budget, readers=TRAIN_READERS, order=order)
    common = group.gather(choice.order)[0]
    if choice.order != common:
        choice = choose_reader(asked, need, budget, readers=TRAIN_READERS, order=common)
    return choice, budget


def _open_source(request: TrainConfig, selection: StoreSubset) -> tuple[AnySource, ShuffleSpec]:
    choice, budget = choose_source(request, selection)
    logger.info("%s", choice.summary)
    if choice.reader == "gpu":
        return load_resident(selection, request.device), choice.order
    return selection.open(choice.reader, budget.ram), choice.order


def _examples(request: TrainConfig, split: str, index: KeyIndex) -> list[Example]:
    examples = request.task.examples(split, request.data_root)
    if request.limit:
        examples = examples[: request.limit]
    try:
        kept = encodable(examples, index)
    except UnknownKeyError as error:
        raise UnknownKeyError(f"{split} in {request.data_root}: {error}") from None
    if len(kept) < len(examples):
        logger.warning(
            "%s: %d of %d examples left out, their medium could not be encoded",
            split,
            len(examples) - len(kept),
            len(examples),
        )
    return kept


def _draw(examples: list[Example], count: int, seed: int) -> list[Example]:
    if not 0 < count < len(examples):
        return examples
    places = np.random.default_rng(seed).permutation(len(examples))[:count]
    return [examples[place] for place in sorted(places)]
