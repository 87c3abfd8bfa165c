"""Measures the alignment of stores with a language model, from options to ranked layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epalm.cache.readers.open_reader import index_store, open_reader
from epalm.cache.store import Store
from epalm.console import progress
from epalm.devices import pick_device
from epalm.errors import UsageError
from epalm.evaluate.alignment.alignment_options import AlignmentOptions
from epalm.evaluate.alignment.mutual_neighbors import Vectors, chance
from epalm.evaluate.alignment.rank_layers import (
    EncoderLayer,
    RankedLayer,
    check_count,
    rank_layers,
    stored_layers,
)
from epalm.evaluate.alignment.text_states import TEMPLATE, encode, mean_states
from epalm.model.engine.language_model import load_language_model
from epalm.model.text.text_encoder import TextEncoder
from epalm.model.text.tokenizer import load_tokenizer
from epalm.portable_path import from_portable
from epalm.precision import choose_precision
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.task_registry import load_task, resolve_data_root
from epalm.tasks.types import Example, Task


@dataclass(frozen=True)
class Alignment:
    """Encoder layers ranked for a language model.

    Attributes:
        lm: hub id or folder of the language model.
        task: name of the task with the texts.
        split: split of the samples.
        samples: number of samples N.
        neighbors: number of neighbors k.
        chance: expected overlap of unrelated representations.
        ranked: the encoder layers, the best first.
    """

    lm: str
    task: str
    split: str
    samples: int
    neighbors: int
    chance: float
    ranked: tuple[RankedLayer, ...]


def measure(options: AlignmentOptions) -> Alignment:
    """Rank the layers of all stores.

    Raises:
        UsageError: no task is named, or there are too few samples.
        UnknownSplitError: the task has no such split.
        UnknownKeyError: a store lacks a sample of the split.
        ModelError: the language model cannot be loaded.
    """
    stores = [Store.open(location) for location in options.stores]
    task, examples = _texts(options, stores)
    drawn = draw(examples, options.samples, options.seed)
    check_count(len(drawn), options.neighbors)
    keys = [example.key for example in drawn]
    states = _text_states(options, drawn)
    ranked = rank_layers(_all_layers(stores, keys), states, options.neighbors)
    return Alignment(
        lm=options.lm,
        task=task.name,
        split=options.split or task.val_split,
        samples=len(keys),
        neighbors=options.neighbors,
        chance=chance(len(keys), options.neighbors),
        ranked=tuple(ranked),
    )


def _texts(options: AlignmentOptions, stores: Sequence[Store]) -> tuple[Task, list[Example]]:
    """The first example with an answer of each sample that all stores have encoded."""
    spec = stores[0].spec
    if not options.task and not spec.tasks:
        raise UsageError(f"the store names no task over {spec.dataset}: give --task")
    name = options.task or spec.tasks[0]
    root = resolve_data_root(options.data_root, recorded=spec.data_root, task=name)
    task = load_task(name, root)
    split = options.split or task.val_split
    check_split(split, task.splits, owner=f"task {task.name}")
    first: dict[str, Example] = {}
    for example in task.examples(split, root):
        if example.answers and example.answers[0].strip():
            first.setdefault(example.key, example)
    encoded = np.ones(len(first), np.bool_)
    for store in stores:
        encoded &= index_store(store, task.name).valid(list(first))
    return task, [one for one, ok in zip(first.values(), encoded, strict=True) if ok]


def draw(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """At most `count` of the examples in random order."""
    order = np.random.default_rng(seed).permutation(len(examples))[:count]
    return [examples[place] for place in order]


def _all_layers(
    stores: Sequence[Store], keys: Sequence[str]
) -> Iterator[tuple[EncoderLayer, Vectors]]:
    for store in stores:
        source = open_reader(store, keys=keys, views=1)
        yield from stored_layers(source, keys, location=store.location)


def _text_states(options: AlignmentOptions, examples: Sequence[Example]) -> Vectors:
    device = pick_device(options.device)
    precision = choose_precision(options.precision, device)
    lm = from_portable(options.lm, Path())
    model = load_language_model(lm, precision, device)
    text = TextEncoder.create(load_tokenizer(lm), TEMPLATE, model.config)
    texts = encode(text, examples, model)
    with progress("texts", total=len(texts), unit="texts", quiet=options.quiet) as tick:
        return mean_states(model, texts, pad=text.pad, batch_size=options.batch_size, on_batch=tick)
