"""From names on the command line to a finished run: what `epalm-train` and the demo call."""

import logging
from dataclasses import replace

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
from epalm.model.engine.language_model import check_source, weights_digest
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.model.epalm import EPALM, parameter_counts
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant
from epalm.precision import AUTO, choose_precision
from epalm.train.config.preflight_checks import check_recipe_store
from epalm.train.config.train_config import TrainConfig
from epalm.train.data.batch_loader import Loader
from epalm.train.data.cached_text_states import check_apart, open_text_states
from epalm.train.data.datasets import Data, open_data
from epalm.train.data.text_encoding import fitting_texts
from epalm.train.data.tokenized_texts import TokenizedTexts
from epalm.train.estimate.memory_advice import describe, make_setup
from epalm.train.lr_schedule import warn_of_long_warmup
from epalm.train.parallel.distributed import translate_peer_failure
from epalm.train.parallel.weight_sharding import check_share, dummy_batch, layer_sharder
from epalm.train.run_files.run_claim import RunClaim, claimed
from epalm.train.run_files.run_folder import earlier_run, write_card
from epalm.train.run_files.training_checkpoint import Progress
from epalm.train.trainer import Trainer, fit
from epalm.train.validation import Validation

logger = logging.getLogger(__name__)


def train(request: TrainConfig) -> RunRecord:
    """Train a run, or resume it.

    Raises:
        RunFolderError: another process trains in the run's folder, or it cannot be written.
        TrainingError: see `epalm.train.trainer.fit`, as `Stopped`.
    """
    if not request.group.leads:
        return _train(request, None)
    with claimed(request.folder, fresh=request.fresh) as claim:
        return _train(request, claim)


def _train(request: TrainConfig, claim: RunClaim | None) -> RunRecord:
    """Train; `claim` is that of the process which writes the run's folder."""
    group = request.group
    store = Store.open(request.features)
    spec = store.spec
    request = settle_precision(request, spec)
    check_request(request, spec)
    shard = layer_sharder(group, request.device, request.recipe) if request.shard else None
    data = open_data(request, store)
    settings = request.recipe.model_settings(request.task.kind, spec)
    texts = fitting_texts(request, settings, data.train, data.val)
    plan = make_setup(request, settings, texts, data.train).plan()
    logger.info("%s", describe(plan, request.device))
    plan.check_weights()
    torch.manual_seed(request.seed)
    model, tokenizer = build_model(settings, request.device, shard=shard)
    _prepare_layers(model, request)
    record = _record(request, settings, model, spec=spec, data=data)
    if claim:
        claim.open(record, request.recipe)
    group.gather(None)
    _announce(record, model, len(data.train), len(data.val))
    run = Trainer(
        folder=request.folder,
        model=model,
        loader=_loader(request, data, texts, model, record.lm_digest),
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
            blind=request.blind,
        ),
        seed=request.seed,
        quiet=request.quiet,
        group=group,
        idle=dummy_batch(*spec.row_shape[-2:]) if shard else None,
    )
    _announce_resumed(run)
    with translate_peer_failure():
        progress = fit(run)
    frozen = "language_model" not in model.trained
    if frozen and weights_digest(model.language_model) != record.lm_digest:
        raise ModelError("the frozen language model changed in training: do not use this run")
    if group.leads:
        _finish(request, record, progress)
    return record


def settle_precision(request: TrainConfig, spec: StoreSpec) -> TrainConfig:
    """The same request with a recipe that names the precision of the language model.

    With "auto" a run that is resumed keeps its precision, and a language model that is trained has
    fp32. The first process decides for all.

    Raises:
        CacheMismatchError: see `earlier_run`.
        UsageError: see `choose_precision`.
    """
    chosen = _own_precision(request, spec) if request.group.leads else ""
    chosen = request.group.gather(chosen)[0]
    return replace(request, recipe=replace(request.recipe, lm_precision=chosen))


def _own_precision(request: TrainConfig, spec: StoreSpec) -> str:
    asked = request.recipe.lm_precision
    if asked == AUTO and find_variant(request.recipe.variant).language_model == "trained":
        asked = "fp32"
    earlier = earlier_run(request.folder, spec, fresh=request.fresh)
    recorded = earlier.model.precision if earlier else ""
    return choose_precision(asked, request.device, recorded=recorded, where=request.folder)


def check_request(request: TrainConfig, spec: StoreSpec) -> None:
    """Refuse what cannot be trained on that store, before anything is loaded.

    Raises:
        CacheMismatchError: see `check_recipe_store`.
        ModelError: see `check_source`.
        UsageError: options that exclude each other, or too many processes.
    """
    check_recipe_store(spec, request.recipe)
    check_source(request.recipe.lm, request.recipe.lm_precision)
    check_share(request.group, request.recipe)
    if request.text_states and request.shard:
        raise UsageError(
            "--text-states computes in one process, --shard-weights in all: use one of them"
        )


def _prepare_layers(model: EPALM, request: TrainConfig) -> None:
    """Make the language model's layers fit for training; rearranged weights cannot be compiled."""
    if request.text_states:
        check_apart(model)
    layers = model.language_model.model.decoder.layers
    checkpoint_last_layers(layers, request.recipe.recompute_layers)
    if request.recipe.compiled == "layers":
        compile_layers(layers)
    elif not request.shard:
        use_onednn_layout(model.language_model)


def _loader(
    request: TrainConfig, data: Data, texts: TokenizedTexts, model: EPALM, lm_digest: str
) -> Loader:
    recipe, folder = request.recipe, request.text_states
    lower = (
        open_text_states(
            folder,
            model,
            texts.possible(),
            digest=lm_digest,
            group=request.group,
            quiet=request.quiet,
        )
        if folder
        else None
    )
    return Loader(
        data.train,
        data.source,
        texts,
        recipe.batch_size,
        request.seed,
        data.order,
        request.group,
        together=recipe.group_questions,
        window=recipe.bucket_batches,
        lower=lower,
    )


def _record(
    request: TrainConfig, settings: ModelSettings, model: EPALM, *, spec: StoreSpec, data: Data
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
        order=data.order.kind,
        pool_blocks=data.order.pool_blocks,
        examples=data.digest(),
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
    for line in str(model.plan).splitlines():
        logger.info("%s", line)


def _announce_resumed(run: Trainer) -> None:
    if run.progress.validated == run.recipe.epochs:
        logger.info("%s was finished before: nothing is trained; --fresh starts over", run.folder)
        return
    if run.group.leads:
        warn_of_long_warmup(run.recipe, len(run.loader.examples))
    if run.progress.step:
        logger.info("resuming %s after step %d", run.folder, run.progress.step)


def _finish(request: TrainConfig, record: RunRecord, progress: Progress) -> None:
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
