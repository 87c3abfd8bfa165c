"""From names on the command line to a finished run: what `epalm-train` and the demo call."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epalm.cache.blind import BlindSource
from epalm.cache.order import Order
from epalm.cache.plan import AUTO, TRAIN_READERS, Budget, choose_reader, ram_budget
from epalm.cache.reader import Selection, index_store, select
from epalm.cache.source import KeyIndex
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import duration
from epalm.errors import CacheMismatchError, ModelError
from epalm.metrics.registry import load_metric
from epalm.model.assembly import ModelSettings, build_model
from epalm.model.epalm import EPALM, parameter_counts
from epalm.model.language_model import weights_digest
from epalm.model.recompute import recompute_last
from epalm.model.saved import RunRecord
from epalm.tasks.records import Example, Task
from epalm.train.checkpoint import Progress
from epalm.train.fit import Run, fit
from epalm.train.loader import AnySource, Loader, encodable
from epalm.train.parallel import ALONE, Group
from epalm.train.recipe import Recipe
from epalm.train.resident import gpu_budget, load_resident
from epalm.train.run_folder import earlier_run, open_run_folder, write_card
from epalm.train.sharding import check_share, idle_batch, layer_sharder
from epalm.train.validation import Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to train.

    Attributes:
        folder: the run's folder; its last part is the run's name.
        task: what is asked.
        data_root: where the task's files lie.
        features: path or URL of the store.
        recipe: all settings.
        recipe_name: for the record.
        seed: of initialisation, order, answers and dropout.
        device: e.g. "cpu" or "cuda".
        blind: train on other media's features.
        limit: use only the first examples of each split; 0 for all.
        fresh: delete a run that is there.
        reader: how vectors are read, "auto" or one of `epalm.cache.plan.TRAIN_READERS`.
        quiet: show no progress.
        group: the processes that train together, connected.
        shard: divide the frozen weights among them.
    """

    folder: Path
    task: Task
    data_root: Path
    features: str
    recipe: Recipe
    recipe_name: str
    seed: int = 0
    device: str = "cpu"
    blind: bool = False
    limit: int = 0
    fresh: bool = False
    reader: str = AUTO
    quiet: bool = False
    group: Group = ALONE
    shard: bool = False


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
    order: Order


def train(request: Request) -> RunRecord:
    """Train, or go on with, a run; see `epalm.train.fit.fit` for what is raised."""
    import torch

    group = request.group
    store = Store.open(request.features)
    spec = store.spec
    check_store(spec, request.recipe)
    check_share(group, request.recipe)
    shard = layer_sharder(group, request.device, request.recipe) if request.shard else None
    data = open_data(request, store)
    settings = request.recipe.model_settings(request.task.kind, spec)
    torch.manual_seed(request.seed)
    model, tokenizer = build_model(settings, request.device, shard=shard)
    recompute_last(model.language_model.model.decoder.layers, request.recipe.recompute_layers)
    record = _record(request, settings, model, spec=spec, order=data.order)
    if group.leads:
        open_run_folder(request.folder, record, request.recipe.to_toml(), fresh=request.fresh)
    group.gather(None)
    _announce(record, model, len(data.train), len(data.val))
    run = Run(
        folder=request.folder,
        model=model,
        loader=Loader(
            data.train,
            data.source,
            tokenizer,
            settings.text_template(),
            request.recipe.batch_size,
            request.seed,
            data.order,
            group,
            request.recipe.group_questions,
            request.recipe.bucket_batches,
        ),
        recipe=request.recipe,
        validate=Validation(
            model=model,
            tokenizer=tokenizer,
            template=settings.text_template(),
            recipe=request.recipe,
            metric=load_metric(request.task.metric),
            examples=data.val,
            source=data.source,
            group=group,
        ),
        seed=request.seed,
        quiet=request.quiet,
        group=group,
        idle=idle_batch(*spec.row_shape[-2:]) if shard else None,
    )
    progress = fit(run)
    frozen = "language_model" not in model.trained
    if frozen and weights_digest(model.language_model) != record.lm_digest:
        raise ModelError("the frozen language model changed in training: do not use this run")
    if group.leads:
        _finish(request, record, progress)
    return record


def open_data(request: Request, store: Store) -> Data:
    """Examples and vectors; a run that goes on keeps the order it began with.

    Raises:
        CacheMismatchError: the run to go on was trained on another store.
        UnfinishedStoreError: the store misses shards.
        UnknownKeyError: the store lacks a medium of the task.
        UsageError: the reader asked for is unknown or cannot work.
    """
    earlier = earlier_run(request.folder, store.spec, fresh=request.fresh)
    index = index_store(store)
    train_examples = _examples(request, request.task.train_split, index)
    val_examples = _examples(request, request.task.val_split, index)
    groups = [[example.key for example in part] for part in (train_examples, val_examples)]
    selection = select(store, index, keys=[*groups[0], *groups[1]])
    begun = Order(earlier.order, earlier.pool_blocks) if earlier else None
    source, order = _open_source(request, selection, begun)
    if request.blind:
        source = BlindSource(source, groups, request.seed)
    drawn = _draw(val_examples, request.recipe.val_examples, request.seed)
    return Data(train_examples, drawn, source, order)


def check_store(spec: StoreSpec, recipe: Recipe) -> None:
    """Compare the store with what the recipe wants.

    Raises:
        CacheMismatchError: another encoder or another preprocessing.
    """
    preset = spec.fingerprint.get("preprocessing.name", "")
    found = {"encoder": spec.encoder, "preprocessing": preset}
    for name, value in found.items():
        wanted = getattr(recipe, name)
        if wanted and wanted != value:
            raise CacheMismatchError(
                f"the store's {name} is {value!r}, the recipe wants {wanted!r}: run "
                f"`epalm-extract --{name} {wanted} --dataset {spec.dataset}`, or train with "
                f"`--set {name}={value}` or another recipe"
            )


def _open_source(
    request: Request, selection: Selection, order: Order | None
) -> tuple[AnySource, Order]:
    """The fastest reader that memory allows, or the one asked for, and the order it serves.

    Processes on one machine divide its memory; all serve the order of the first one.
    """
    asked, group = request.reader, request.group
    ram = ram_budget(asked) // group.local_world
    budget = Budget(ram, gpu_budget(request.device, asked))
    need = selection.need(request.recipe.batch_size)
    choice = choose_reader(asked, need, budget, readers=TRAIN_READERS, order=order)
    common = group.gather(choice.order)[0]
    if choice.order != common:
        choice = choose_reader(asked, need, budget, readers=TRAIN_READERS, order=common)
    logger.info("%s", choice.line)
    if choice.reader == "gpu":
        return load_resident(selection, request.device), choice.order
    return selection.open(choice.reader, budget.ram), choice.order


def _examples(request: Request, split: str, index: KeyIndex) -> list[Example]:
    examples = request.task.examples(split, request.data_root)
    if request.limit:
        examples = examples[: request.limit]
    kept = encodable(examples, index)
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


def _record(
    request: Request, settings: ModelSettings, model: EPALM, *, spec: StoreSpec, order: Order
) -> RunRecord:
    trained, frozen = parameter_counts(model)
    return RunRecord(
        name=request.folder.name,
        task=request.task.name,
        recipe=request.recipe_name,
        model=settings,
        decoding=request.recipe.decoding(),
        features=request.features,
        store=spec.comparable(),
        data_root=str(request.data_root),
        seed=request.seed,
        blind=request.blind,
        lm_digest=weights_digest(model.language_model),
        trained=trained,
        frozen=frozen,
        order=order.kind,
        pool_blocks=order.pool_blocks,
    )


def _announce(record: RunRecord, model: EPALM, train_count: int, val_count: int) -> None:
    share = 100 * record.trained / (record.trained + record.frozen)
    logger.info(
        "%s: %s on %s, %d training and %d validation examples%s",
        record.name,
        record.model.variant,
        record.model.lm,
        train_count,
        val_count,
        ", blind control" if record.blind else "",
    )
    logger.info(
        "training %s of %s parameters (%.4f %% of all but the encoder's)",
        f"{record.trained:,}",
        f"{record.trained + record.frozen:,}",
        share,
    )
    logger.info("%s", model.plan)


def _finish(request: Request, record: RunRecord, progress: Progress) -> None:
    best = {
        "best validation score": f"{100 * progress.best_score:.2f} (epoch {progress.best_epoch})",
        "time": duration(progress.seconds),
    }
    write_card(request.folder, record, best)
    logger.info(
        "done in %s, best epoch %d: %s",
        duration(progress.seconds),
        progress.best_epoch,
        request.folder,
    )
