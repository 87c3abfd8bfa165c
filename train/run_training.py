"""Trains a run from start to finish: what `epalm-train` and the demo call."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from epalm.console import duration
from epalm.errors import ModelError
from epalm.model.build import build_model
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.engine.activation_checkpointing import checkpoint_last_layers
from epalm.model.engine.decoder_loop import compile_layers
from epalm.model.engine.language_model import weights_digest
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.model.epalm import EPALM
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant
from epalm.model.text.text_encoder import TextEncoder
from epalm.train.config.lr_schedule import warn_of_long_warmup
from epalm.train.config.recipe import Recipe
from epalm.train.data.batch_loader import Loader
from epalm.train.data.cached_text_states import (
    CachedTextStates,
    check_text_independent,
    shared_text_states,
)
from epalm.train.data.datasets import Data, open_data
from epalm.train.data.new_record import new_record
from epalm.train.data.shared_parts import SharedParts
from epalm.train.data.text_encoding import encode_texts, resolve_text_settings
from epalm.train.data.tokenized_texts import TokenizedTexts
from epalm.train.estimate.memory_advice import describe, memory_inputs
from epalm.train.options.checked_settings import check_settings, resolve_precision
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.parallel.distributed import translate_peer_failure
from epalm.train.parallel.weight_sharding import dummy_batch, layer_sharder
from epalm.train.run_files.run_claim import RunClaim, claimed
from epalm.train.run_files.run_folder import earlier_run, recorded_order, write_model_card
from epalm.train.run_files.start_log import log_start
from epalm.train.run_files.trackers.tracker import TrackedRun, tracked_settings
from epalm.train.run_files.training_checkpoint import Progress
from epalm.train.trainer import Trainer, fit
from epalm.train.validation.validation import validation_of

if TYPE_CHECKING:
    from epalm.train.run_files.trackers.tracking import Tracking

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to train.

    Attributes:
        record: record of the run.
        trainer: everything that `fit` works on.
    """

    record: RunRecord
    trainer: Trainer

    def finish(self) -> None:
        """Check and complete the run's folder after its last epoch.

        Raises:
            ModelError: the frozen language model changed.
            RunFolderError: the folder cannot be written.
        """
        _check_frozen(self.trainer.model, self.record)
        if self.trainer.group.leads:
            _finish(self.trainer.folder, self.trainer.progress)


def train(data: DataConfig, model: ModelConfig, runtime: RuntimeConfig) -> RunRecord:
    """Train a run, or resume it.

    Raises:
        RunFolderError: another process trains in the run's folder, or it cannot be written.
        TrainingError: `fit` cannot continue; it also raises `Stopped`.
    """
    with prepared(data, model, runtime) as run:
        with translate_peer_failure():
            fit(run.trainer)
        run.finish()
        return run.record


@contextmanager
def prepared(
    data: DataConfig,
    model: ModelConfig,
    runtime: RuntimeConfig,
    shared: SharedParts | None = None,
) -> Iterator[PreparedRun]:
    """Claim a run's folder, and load what its training needs; it resumes from its checkpoint.

    Args:
        data: what to train on.
        model: what to train.
        runtime: where and how.
        shared: parts that earlier trainings in this process have loaded, of which this one uses
            what fits; None to load everything.

    Raises:
        RunFolderError: another process trains in the run's folder, or it cannot be written.
        EpalmError: the data or the settings cannot be used.
    """
    with ExitStack() as stack:
        claim = None
        if runtime.group.leads:
            claim = stack.enter_context(claimed(runtime.folder, fresh=runtime.fresh))
        yield _prepare(data, model, runtime, claim, shared or SharedParts(), stack)


def _prepare(
    data: DataConfig,
    model: ModelConfig,
    runtime: RuntimeConfig,
    claim: RunClaim | None,
    shared: SharedParts,
    stack: ExitStack,
) -> PreparedRun:
    """Load everything; `claim` is held by the process that writes the run's folder."""
    group = runtime.group
    stores, earlier = earlier_run(runtime.folder, data.open_stores(), fresh=runtime.fresh)
    model = resolve_precision(model, runtime, earlier)
    recipe = model.recipe
    check_settings(recipe, runtime, stores.specs[0])
    shard = layer_sharder(group, runtime.device, recipe) if runtime.shard_weights else None
    examples = open_data(
        data, model, runtime, stores=stores, recorded=recorded_order(earlier), shared=shared
    )
    settings = resolve_text_settings(recipe.model_settings(data.task.kind, *stores.specs))
    texts = encode_texts(data, recipe, settings, examples.train, examples.val, shared=shared)
    if not shared.planned:
        plan = memory_inputs(model, runtime, settings, texts, examples.train).plan()
        logger.info("%s", describe(plan, runtime.device))
        plan.check_weights()
    network, text = _build(model, settings, runtime, shared, shard)
    validation = validation_of(network, text, data, examples, recipe=recipe, group=group)
    record = new_record(data, model, settings, examples, network, folder=runtime.folder)
    if claim:
        claim.open(record, recipe)
    group.gather(None)
    log_start(record, network, len(examples.train), len(examples.val))
    tracking = stack.enter_context(_tracking(data, examples, record, recipe, runtime))
    states = shared_text_states(runtime, network, texts, digest=record.lm_digest, shared=shared)
    trainer = Trainer(
        folder=runtime.folder,
        model=network,
        loader=_loader(model, runtime, examples, texts, states),
        recipe=recipe,
        validate=replace(validation, on_texts=tracking.show if tracking else None),
        seed=model.seed,
        quiet=runtime.quiet,
        group=group,
        tracking=tracking,
        dummy=dummy_batch(*stores.row_shape) if shard else None,
    )
    _log_resumed(trainer)
    return PreparedRun(record, trainer)


def _build(
    model: ModelConfig,
    settings: ModelSettings,
    runtime: RuntimeConfig,
    shared: SharedParts,
    shard: Callable[[nn.Module], object] | None,
) -> tuple[EPALM, TextEncoder]:
    """The model, whose trained parts are drawn by seed, with its layers prepared for training."""
    recipe = model.recipe
    own = (
        find_variant(settings.variant).language_model == "trained"
        or recipe.compiled != "nothing"
        or shard is not None
    )
    lm = shared.lender.borrow(settings, runtime.device, own=own, shard=shard)
    torch.manual_seed(recipe.init_seed or model.seed)
    network, text = build_model(settings, runtime.device, lm=lm)
    _prepare_layers(network, recipe, runtime)
    return network, text


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
