"""The training loop."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from epalm.console import decimal
from epalm.console import progress as show_progress
from epalm.errors import Stopped, TrainingError
from epalm.model.checkpoints.adapter_io import save_adapter
from epalm.model.checkpoints.run_record import ADAPTER_FILE
from epalm.model.checkpoints.validation_figures import describe_figures, quality
from epalm.model.engine.losses import TokenLosses
from epalm.model.engine.model_batch import Batch
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.train.config.lr_schedule import learning_rate
from epalm.train.config.optimizer import make_optimizer, own_rates, set_rates
from epalm.train.config.recipe import Recipe
from epalm.train.data.batch_loader import Loader
from epalm.train.parallel.distributed import ALONE, RANK_SEEDS, Group, check_same_step
from epalm.train.run_files.metrics_log import MetricsLog, resource_usage
from epalm.train.run_files.run_folder import writes_named
from epalm.train.run_files.stop_signal import stop_signal
from epalm.train.run_files.training_checkpoint import Progress, check_finite, load_state, save_state

if TYPE_CHECKING:
    from epalm.train.run_files.trackers.tracking import Tracking

logger = logging.getLogger(__name__)

LOG_STEPS = 10
"""Steps per line of metrics.jsonl, which gives their mean loss."""

SAVE_STEPS = 500
"""Steps between checkpoints within an epoch, a multiple of `LOG_STEPS`."""


@dataclass
class Trainer:
    """Everything that the training loop works on.

    Attributes:
        folder: run folder, for checkpoints and metrics.
        model: model on its device.
        loader: training batches.
        recipe: settings of the run.
        validate: returns scores and other figures of the current weights; the first one selects the
            best epoch.
        seed: seed of dropout.
        quiet: show no progress.
        group: processes that train together; rank 0 writes.
        tracking: tracker that gets the metrics of rank 0, too; None for none.
        dummy: batch that a process computes if its shard of a batch is empty; None for nothing.
        optimizer: AdamW over the trainable tensors.
        progress: position in the training, from the last checkpoint if there is one.
        log: metrics log of rank 0; None in other processes.
    """

    folder: Path
    model: EPALM
    loader: Loader
    recipe: Recipe
    validate: Callable[[], dict[str, float]]
    seed: int
    quiet: bool = False
    group: Group = ALONE
    tracking: "Tracking | None" = None
    dummy: Batch | None = None
    optimizer: torch.optim.Optimizer = field(init=False)
    progress: Progress = field(init=False)
    log: MetricsLog | None = field(init=False)

    def __post_init__(self) -> None:
        """Build the optimizer and load the last checkpoint."""
        self.optimizer = make_optimizer(self.model, self.recipe)
        self.progress = load_state(self.folder, self.model, self.optimizer)
        check_same_step(self.group, self.progress.step)
        self.log = None
        if self.group.leads:
            self.log = MetricsLog(self.folder, self.progress, self.tracking)


def fit(trainer: Trainer, stop_at: int | None = None) -> Progress:
    """Train to the end of the recipe, validating after every epoch; resumes from a checkpoint.

    Args:
        trainer: everything that is worked on.
        stop_at: step, a multiple of `LOG_STEPS` or the last one of an epoch, after which training
            pauses with a checkpoint; None for the end.

    Returns:
        The progress; once it is finished, the best weights are in the folder's adapter.safetensors.

    Raises:
        TrainingError: the loss, a weight or the score became non-finite.
        RunFolderError: the run's folder cannot be written.
        Stopped: SIGTERM or SIGINT arrived; a checkpoint was written.
    """
    steps = len(trainer.loader)
    with (
        stop_signal() as stopped,
        show_progress(
            "training",
            total=steps * trainer.recipe.epochs,
            unit="steps",
            done=trainer.progress.step,
            quiet=trainer.quiet or not trainer.group.leads,
        ) as tick,
    ):
        for epoch in range(trainer.progress.validated, trainer.recipe.epochs):
            if _paused(trainer, stop_at):
                break
            for window in train_epoch(trainer, epoch, stopped, step_done=partial(tick, 1)):
                note = (
                    f"loss {window.loss:.4f} · {decimal(window.rate)} samples/s · epoch {epoch + 1}"
                )
                tick(1, note)
                if _paused(trainer, stop_at):
                    save(trainer)
                    return trainer.progress
            validate_epoch(trainer, epoch)
    return trainer.progress


def _paused(trainer: Trainer, stop_at: int | None) -> bool:
    """Whether training pauses here; an epoch that is complete is validated first."""
    done = trainer.progress
    unvalidated = done.step == (done.validated + 1) * len(trainer.loader)
    return stop_at is not None and done.step >= stop_at and not unvalidated


@dataclass(frozen=True)
class LogWindow:
    """Consecutive steps that are logged as one line.

    Attributes:
        loss: mean loss of the steps.
        rate: samples per second.
    """

    loss: float
    rate: float


def train_epoch(
    trainer: Trainer, epoch: int, stopped: threading.Event, *, step_done: Callable[[], None]
) -> Iterator[LogWindow]:
    """Train the rest of an epoch; yields each logged window after its last step.

    A checkpoint is only written between windows, so a resumed run logs the same windows.

    Args:
        trainer: model, data and progress of the run.
        epoch: number of the epoch, from 0.
        stopped: set when a signal has arrived.
        step_done: called after each step but the last one of a window.
    """
    steps = len(trainer.loader)
    first = trainer.progress.step - epoch * steps
    losses: list[Tensor] = []
    started = time.monotonic()
    batches = trainer.loader.batches(epoch, start=first)
    for number in range(first + 1, steps + 1):
        losses.append(train_step(trainer, next(batches, None)))
        if number % LOG_STEPS and number != steps:
            step_done()
            continue
        yield _log_window(trainer, epoch, losses, seconds=time.monotonic() - started)
        losses, started = [], time.monotonic()
        stop = any(trainer.group.gather(stopped.is_set()))
        if stop or number % SAVE_STEPS == 0 or number == steps:
            save(trainer)
        if stop:
            raise Stopped(
                f"stopped by a signal after step {trainer.progress.step}; "
                "run the same command again to resume"
            )


def train_step(trainer: Trainer, batch: Batch | None) -> Tensor:
    """Take one optimizer step.

    Args:
        trainer: model, optimizer and progress of the run, which the step changes.
        batch: this process's shard of the batch; None if it is empty.

    Returns:
        The mean loss over all processes, a detached scalar.
    """
    model, recipe, step = trainer.model, trainer.recipe, trainer.progress.step
    device = next(model.parameters()).device
    seed = trainer.seed * 1_000_003 + step  # dropout, the same when resumed
    torch.manual_seed(seed + RANK_SEEDS * trainer.group.rank)
    steps = len(trainer.loader)
    rate = learning_rate(
        recipe.schedule, recipe.lr, step=step, steps_per_epoch=steps, epochs=recipe.epochs
    )
    set_rates(trainer.optimizer, recipe, rate)
    model.train()
    trainer.optimizer.zero_grad(set_to_none=True)
    loss, terms = torch.zeros((), device=device), 0
    if batch is not None:
        prompted = step >= recipe.prompt_delay
        losses = model(batch.to(device), recipe.label_smoothing, with_prompt=prompted)
        loss, terms = reduce_loss(losses, recipe)
        loss = recipe.loss_weight * loss
        loss.backward()
    elif trainer.dummy is not None:
        model(trainer.dummy.to(device)).values.sum().backward()
    weights = [weight for _, weight in trainable_parameters(model)]
    loss = trainer.group.average(loss.detach(), weights, terms)
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(weights, recipe.clip_norm)
    trainer.optimizer.step()
    trainer.progress.step += 1
    return loss


def reduce_loss(losses: TokenLosses, recipe: Recipe) -> tuple[Tensor, int]:
    """The mean loss before `loss_weight`, and the number of terms that it is the mean of."""
    terms = losses.values if recipe.normalize == "token" else losses.per_example()
    return terms.mean(), len(terms)


def validate_epoch(trainer: Trainer, epoch: int) -> None:
    """Score the weights, save them if they are the best so far, and write a checkpoint.

    Raises:
        TrainingError: a weight or the score is not finite.
        RunFolderError: the run's folder cannot be written.
    """
    started = time.monotonic()
    check_finite(trainer.model, trainer.optimizer, step=trainer.progress.step)
    figures = trainer.validate()
    name, figure = next(iter(figures.items()))
    score = quality(name, figure)
    if not math.isfinite(score):
        raise TrainingError(f"the validation score {name} is {figure}: it cannot select an epoch")
    if trainer.log:
        trainer.log.append(kind="val", step=trainer.progress.step, epoch=epoch + 1, **figures)
    if score > trainer.progress.best_score:
        trainer.progress.best_score, trainer.progress.best_epoch = score, epoch + 1
        if trainer.group.leads:
            with writes_named(trainer.folder):
                save_adapter(trainer.model, trainer.folder / ADAPTER_FILE)
    trainer.progress.validated = epoch + 1
    trainer.progress.seconds += time.monotonic() - started
    if trainer.log:
        trainer.log.append(
            kind="spent",
            step=trainer.progress.step,
            epoch=epoch + 1,
            **resource_usage(trainer.progress),
        )
    save(trainer)
    shown = describe_figures(figures)
    logger.info("epoch %d: %s (best %d)", epoch + 1, shown, trainer.progress.best_epoch)


def save(trainer: Trainer) -> None:
    """Write a checkpoint; every process waits until it is complete."""
    check_finite(trainer.model, trainer.optimizer, step=trainer.progress.step)
    if trainer.group.leads:
        with writes_named(trainer.folder):
            save_state(trainer.folder, trainer.model, trainer.optimizer, trainer.progress)
    trainer.group.gather(None)


def _log_window(trainer: Trainer, epoch: int, losses: list[Tensor], *, seconds: float) -> LogWindow:
    mean_loss = float(torch.stack(losses).mean())
    if not math.isfinite(mean_loss):
        raise TrainingError(
            f"the loss became {mean_loss} near step {trainer.progress.step}: lower lr, set "
            "clip_norm, or use --set lm_precision=bf16 or fp32 instead of fp16"
        )
    done = trainer.progress.step - epoch * len(trainer.loader)
    rate = trainer.loader.samples(done - len(losses), done) / max(seconds, 1e-9)
    trainer.progress.seconds += seconds
    if trainer.log:
        trainer.log.append(
            kind="train",
            step=trainer.progress.step,
            epoch=epoch + 1,
            loss=mean_loss,
            lr=trainer.optimizer.param_groups[0]["lr"],
            samples_per_s=round(rate, 1),
            **own_rates(trainer.optimizer),
        )
    return LogWindow(mean_loss, rate)
