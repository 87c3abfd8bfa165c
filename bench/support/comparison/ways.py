"""The ways of training a captioner that `bench.comparison` measures, each in its own process.

Each way returns its curve: (steps, CPU seconds so far, validation loss in nats per token). CPU time
is that of training alone, plus encoding that is done once before it; validation and the loading of
models are left out. The validation loss is that of the same captions of the same photos, each with
its end token.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.support.comparison.curves import Curve
from bench.support.comparison.plain_script import parse
from bench.support.comparison.plain_script import train as train_plainly
from bench.support.official_step import OfficialModel, OnlineEncoder
from epalm.cache.store import Store
from epalm.console import configure_logging
from epalm.model.build import build_model
from epalm.model.engine.losses import TokenLosses
from epalm.model.engine.model_batch import IGNORED, Batch, collate_texts
from epalm.model.epalm import EPALM
from epalm.model.text.text_encoder import TextEncoder
from epalm.tasks.benchmarks.karpathy import FLICKR8K, caption_task, media
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import Recipe, load_recipe
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.run_training import prepared
from epalm.train.trainer import fit
from epalm.train.validation.validation import Validation

BATCH, WARMUP = 32, 20
"""Captions per step, and steps in which the learning rate rises; it is constant afterwards."""

ENCODER = "vit-ti16"


@dataclass(frozen=True)
class Budget:
    """What every way is given.

    Attributes:
        data: folder of Flickr8k.
        vit: weights of the image encoder.
        lm: folder of the language model.
        features: store of the photos, which gives the sizes and, cached, the features.
        steps: largest number of steps; a multiple of `every`.
        every: steps between validations.
        val: number of validation captions.
        until: loss at which training ends.
        lr: learning rate.
        seed: seed of initialization and order.
    """

    data: str
    vit: str
    lm: str
    features: str
    steps: int
    every: int
    val: int
    until: float
    lr: float = 0.0
    seed: int = 0

    def ended(self, curve: Curve) -> bool:
        """Whether training ends after the last validation."""
        step, _, loss = curve[-1]
        return step >= self.steps or loss <= self.until


def plain(budget: dict[str, Any], *options: str) -> Curve:
    """Train with the script of one file, see `bench.support.comparison.plain_script`."""
    given = Budget(**budget)
    names = ("data", "vit", "lm", "lr", "every", "val", "seed")
    words = [f"--{name}={getattr(given, name)}" for name in names]
    curve: Curve = []
    for point in train_plainly(parse([*words, *options])):
        curve.append(point)
        if given.ended(curve):
            break
    return curve


def official(budget: dict[str, Any]) -> Curve:
    """Train as the official implementation: images are loaded, augmented and encoded every step."""
    given = Budget(**budget)
    torch.manual_seed(given.seed)
    root = Path(given.data)
    settings = _recipe(given, "variant='full'", "tail='official'", "supervise='all'")
    network, text = build_model(
        settings.model_settings("caption", Store.open(given.features).spec), "cpu"
    )
    model = OfficialModel(network)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=given.lr, weight_decay=0.0)
    encoder = OnlineEncoder(torch.float32, "cpu", ENCODER, weights=Path(given.vit))
    items = {item.key: item for item in media(FLICKR8K, root).items}
    examples = caption_task(FLICKR8K, root).examples("train", root)
    order = np.random.default_rng(given.seed).permutation(len(examples))
    held_out = HeldOut.encoded(given, text, lambda key: encoder.encode([items[key]], view=0)[0])
    curve: Curve = [(0, 0.0, held_out.loss(model))]
    step, spent = 0, 0.0
    while not (step % given.every == 0 and given.ended(curve)):
        started = time.process_time()
        chosen = [examples[place] for place in order[step * BATCH : (step + 1) * BATCH]]
        features = encoder.encode([items[example.key] for example in chosen], view=1)
        batch = _batch(text, [example.answers[0] for example in chosen], features)
        optimizer.param_groups[0]["lr"] = given.lr * min(1, (step + 1) / WARMUP)
        optimizer.zero_grad(set_to_none=True)
        model(batch).mean().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        spent += time.process_time() - started
        step += 1
        if step % given.every == 0:
            curve.append((step, spent, held_out.loss(model)))
    return curve


def cached(budget: dict[str, Any], folder: str) -> Curve:
    """Train as `epalm-train --recipe small` from the store `features`; the run is in `folder`."""
    given = Budget(**budget)
    configure_logging(quiet=True)
    root = Path(given.data)
    recipe = _recipe(given, "val_examples=1", "loss_examples=1")
    started = time.process_time()
    with prepared(
        DataConfig(given.features, caption_task(FLICKR8K, root), root),
        ModelConfig(recipe, "small", given.seed),
        RuntimeConfig(Path(folder), fresh=True, quiet=True),
    ) as run:
        spent = time.process_time() - started
        trainer = run.trainer
        assert isinstance(trainer.validate, Validation)
        source = trainer.validate.source
        held_out = HeldOut.encoded(
            given, trainer.validate.text, lambda key: torch.as_tensor(source.read([key]))[0]
        )
        model = OneLossPerCaption(trainer.model)
        curve: Curve = [(0, spent, held_out.loss(model))]
        while not given.ended(curve):
            started = time.process_time()
            fit(trainer, stop_at=trainer.progress.step + given.every)
            spent += time.process_time() - started
            curve.append((trainer.progress.step, spent, held_out.loss(model)))
    return curve


class OneLossPerCaption(nn.Module):
    """A model of this project whose losses are summed for each caption, (B) float32."""

    def __init__(self, model: EPALM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """(B) losses."""
        losses: TokenLosses = self.model(batch)
        return losses.per_example()


@dataclass(frozen=True)
class HeldOut:
    """Validation captions, each with the features of its photo."""

    batches: Sequence[Batch]

    @classmethod
    def encoded(
        cls, given: Budget, text: TextEncoder, encode: Callable[[str], Tensor]
    ) -> "HeldOut":
        """The first caption of the first photos of the split; `encode` gives (L, D) of a key."""
        root = Path(given.data)
        examples = caption_task(FLICKR8K, root).examples("val", root)[: given.val]
        chunks = (examples[at : at + BATCH] for at in range(0, len(examples), BATCH))
        return cls(
            [
                _batch(
                    text,
                    [example.answers[0] for example in chunk],
                    torch.stack([encode(example.key) for example in chunk]),
                )
                for chunk in chunks
            ]
        )

    @torch.no_grad()
    def loss(self, model: nn.Module) -> float:
        """Nats per token of captions and end tokens; the mode of `model` is kept."""
        training = model.training
        model.eval()
        total = sum(float(model(batch).sum()) for batch in self.batches)
        model.train(training)
        return total / sum(int((batch.labels != IGNORED).sum()) for batch in self.batches)


def _recipe(given: Budget, *changes: str) -> Recipe:
    """The recipe small with this learning rate, constant after the warm-up."""
    common = (f"lm='{given.lm}'", "lm_precision='fp32'", f"batch_size={BATCH}", f"lr={given.lr}")
    schedule = (f"schedule.warmup_steps={WARMUP}", f"schedule.min_lr={given.lr}")
    return load_recipe("small", parse_changes([*common, *schedule, *changes]))


def _batch(text: TextEncoder, captions: Sequence[str], features: Tensor) -> Batch:
    heads, tails = text.prompt_ids([""] * len(captions)), text.answer_ids(captions)
    texts = list(zip(heads, tails, strict=True))
    tensors = collate_texts(texts, supervise="all", pad=text.pad)
    return Batch(features, *tensors, torch.arange(len(captions)))
