"""Trains a run from start to finish: what `epalm-train` and the demo call."""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import duration
from epalm.errors import ModelError, UsageError
from epalm.metrics.metric_registry import load_metric
from epalm.model.build import build_model
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.engine.activation_checkpointing import checkpoint_last_layers
from epalm.model.engine.decoder_loop import compile_layers
from epalm.model.engine.language_model import weights_digest
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.model.epalm import EPALM, parameter_counts
from epalm.model.families.model_source import check_source
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant
from epalm.precision import AUTO, choose_precision
from epalm.train.config.lr_schedule import warn_of_long_warmup
from epalm.train.config.recipe import Recipe
from epalm.train.data.batch_loader import Loader
from epalm.train.data.cached_text_states import (
    CachedTextStates,
    check_text_independent,
    open_text_states,
)
from epalm.train.data.datasets import Data, open_data
from epalm.train.data.text_encoding import encode_texts, resolve_text_settings
from epalm.train.data.tokenized_texts import TokenizedTexts
from epalm.train.estimate.memory_advice import describe, memory_inputs
from epalm.train.options.preflight_checks import check_recipe_store
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.parallel.distributed import translate_peer_failure
from epalm.train.parallel.weight_sharding import check_world_size, dummy_batch, layer_sharder
from epalm.train.run_files.run_claim import RunClaim, claimed
from epalm.train.run_files.run_folder import earlier_run, recorded_order, write_model_card
from epalm.train.run_files.start_log import log_start
from epalm.train.run_files.trackers.tracker import TrackedRun, tracked_settings
from epalm.train.run_files.training_checkpoint import Progress
from epalm.train.trainer import Trainer, fit
from epalm.train.validation import Validation

if TYPE_CHECKING:
    from epalm.train.run_files.trackers.tracking import Tracking

logger = logging.getLogger(__name__)


def train(data: DataConfig, model: ModelConfig, runtime: RuntimeConfig) -> RunRecord:
    """Train a run, or resume it.

    Raises:
        RunFolderError: another process trains in the run's folder, or it cannot be written.
        TrainingError: `fit` cannot continue; it also raises `Stopped`.
    """
    if not runtime.group.leads:
        return _train(data, model, runtime, None)
    with claimed(runtime.folder, fresh=runtime.fresh) as claim:
        return _train(data, model, runtime, claim)


def _train(
    data: DataConfig, model: ModelConfig, runtime: RuntimeConfig, claim: RunClaim | None
) -> RunRecord:
    """Train; `claim` is held by the process that writes the run's folder."""
    group, device = runtime.group, runtime.device
    opened = Store.open(data.features)
    store, earlier = earlier_run(runtime.folder, opened, fresh=runtime.fresh)
    model = resolve_precision(model, runtime, earlier)
    recipe = model.recipe
    check_settings(recipe, runtime, store.spec)
    shard = layer_sharder(group, device, recipe) if runtime.shard_weights else None
    examples = open_data(data, model, runtime, store=store, recorded=recorded_order(earlier))
    settings = resolve_text_settings(recipe.model_settings(data.task.kind, store.spec))
    texts = encode_texts(data, recipe, settings, examples.train, examples.val)
    plan = memory_inputs(model, runtime, settings, texts, examples.train).plan()
    logger.info("%s", describe(plan, device))
    plan.check_weights()
    torch.manual_seed(model.seed)
    network, text = build_model(settings, device, shard=shard)
    _prepare_layers(network, recipe, runtime)
    record = _record(data, model, settings, examples, network, folder=runtime.folder)
    if claim:
        claim.open(record, recipe)
    group.gather(None)
    log_start(record, network, len(examples.train), len(examples.val))
    with _tracking(data, examples, record, recipe, runtime) as tracking:
        trainer = Trainer(
            folder=runtime.folder,
            model=network,
            loader=_loader(
                model, runtime, examples, texts, _text_states(runtime, network, texts, record)
            ),
            recipe=recipe,
            validate=Validation(
                model=network,
                text=text,
                recipe=recipe,
                metric=load_metric(data.task.metric),
                examples=examples.val,
                source=examples.source,
                group=group,
                blind=data.blind,
                on_texts=tracking.show if tracking else None,
            ),
            seed=model.seed,
            quiet=runtime.quiet,
            group=group,
            tracking=tracking,
            dummy=dummy_batch(*store.spec.row_shape[-2:]) if shard else None,
        )
        _log_resumed(trainer)
        with translate_peer_failure():
            progress = fit(trainer)
    _check_frozen(network, record)
    if group.leads:
        _finish(runtime.folder, progress)
    return record


def resolve_precision(
    model: ModelConfig, runtime: RuntimeConfig, earlier: RunRecord | None
) -> ModelConfig:
    """The same configuration with a recipe that names the precision of the language model.

    With "auto" a resumed run keeps its precision, and a language model that is trained has fp32.
    Rank 0 decides for all processes.

    Args:
        model: recipe, whose precision may be "auto".
        runtime: device and processes.
        earlier: record of the run to resume; None for a new run.

    Raises:
        UsageError: the device cannot compute in this precision.
    """
    precision = ""
    if runtime.group.leads:
        precision = model.recipe.lm_precision
        trained = find_variant(model.recipe.variant).language_model == "trained"
        precision = choose_precision(
            "fp32" if precision == AUTO and trained else precision,
            runtime.device,
            recorded=earlier.model.precision if earlier else "",
            where=runtime.folder,
        )
    precision = runtime.group.gather(precision)[0]
    return replace(model, recipe=replace(model.recipe, lm_precision=precision))


def check_settings(recipe: Recipe, runtime: RuntimeConfig, spec: StoreSpec) -> None:
    """Refuse settings that cannot be trained with on a store, before anything is loaded.

    Raises:
        CacheMismatchError: `check_recipe_store` refuses the store.
        ModelError: `check_source` refuses the features.
        UsageError: options that exclude each other, or too many processes.
    """
    check_recipe_store(spec, recipe)
    check_source(recipe.lm)
    check_world_size(runtime.group, recipe)
    if runtime.text_states and runtime.shard_weights:
        raise UsageError(
            "--text-states computes in one process, --shard-weights in all: use one of them"
        )


def _prepare_layers(network: EPALM, recipe: Recipe, runtime: RuntimeConfig) -> None:
    """Prepare the LM's layers for training; weights in oneDNN layout cannot be compiled."""
    if runtime.text_states:
        check_text_independent(network)
    layers = network.parts.layers
    checkpoint_last_layers(layers, recipe.recompute_layers)
    if recipe.compiled == "layers":
        compile_layers(layers)
    elif not runtime.shard_weights:
        use_onednn_layout(network.language_model)


def _text_states(
    runtime: RuntimeConfig, network: EPALM, texts: TokenizedTexts, record: RunRecord
) -> CachedTextStates | None:
    if runtime.text_states is None:
        return None
    return open_text_states(
        runtime.text_states,
        network,
        texts.possible(),
        digest=record.lm_digest,
        group=runtime.group,
        quiet=runtime.quiet,
    )


def _loader(
    model: ModelConfig,
    runtime: RuntimeConfig,
    examples: Data,
    texts: TokenizedTexts,
    text_states: CachedTextStates | None,
) -> Loader:
    return Loader(
        examples.train,
        examples.source,
        texts,
        model.recipe.batch_size,
        model.seed,
        examples.order,
        runtime.group,
        group_questions=model.recipe.group_questions,
        bucket_batches=model.recipe.bucket_batches,
        text_states=text_states,
    )


def _tracking(
    data: DataConfig, examples: Data, record: RunRecord, recipe: Recipe, runtime: RuntimeConfig
) -> "AbstractContextManager[Tracking | None]":
    """The tracker of rank 0; None without one and in other processes."""
    if not (runtime.track and runtime.group.leads):
        return nullcontext()
    from epalm.train.run_files.trackers.tracking import Tracking  # and decoders of media files
    from epalm.train.run_files.trackers.validation_samples import ValidationSamples

    spec = examples.source.spec
    settings = tracked_settings(record, recipe)
    run = TrackedRun(runtime.folder, record.name, "", 0, settings, runtime.quiet)
    samples = ValidationSamples(examples.val, spec.media or spec.dataset, data.root)
    return Tracking(runtime.track, run, samples)


def _record(
    data: DataConfig,
    model: ModelConfig,
    settings: ModelSettings,
    examples: Data,
    network: EPALM,
    *,
    folder: Path,
) -> RunRecord:
    trained, frozen = parameter_counts(network)
    return RunRecord(
        name=folder.name,
        task=data.task.name,
        recipe=model.recipe_name,
        model=settings,
        decoding=model.recipe.decoding(),
        features=data.features,
        store=examples.source.spec.comparable(),
        data_root=str(data.root),
        seed=model.seed,
        blind=data.blind,
        lm_digest=weights_digest(network.language_model),
        trained=trained,
        frozen=frozen,
        order=examples.order.kind,
        pool_blocks=examples.order.pool_blocks,
        examples=examples.digest(),
        weights=examples.source.spec.weights_location,
    )


def _log_resumed(trainer: Trainer) -> None:
    if trainer.progress.validated == trainer.recipe.epochs:
        logger.info(
            "%s is finished already: nothing is trained; --fresh starts over", trainer.folder
        )
        return
    if trainer.group.leads:
        warn_of_long_warmup(trainer.recipe, len(trainer.loader.examples))
    if trainer.progress.step:
        logger.info("resuming %s after step %d", trainer.folder, trainer.progress.step)


def _check_frozen(network: EPALM, record: RunRecord) -> None:
    frozen = "language_model" not in network.trained
    if frozen and weights_digest(network.language_model) != record.lm_digest:
        raise ModelError("the frozen language model changed in training: do not use this run")


def _finish(folder: Path, progress: Progress) -> None:
    write_model_card(folder)
    logger.info(
        "done in %s, best epoch %d: %s",
        duration(progress.seconds),
        progress.best_epoch,
        folder,
    )
