"""The ways to take a training step that `bench.training` compares, and how one is measured."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import OPTForCausalLM

from bench.support.official_step import OfficialModel, OnlineEncoder
from bench.support.timed_rounds import Sample, Variant, Watch
from bench.support.vqa_workload import (
    Arrangement,
    Questions,
    Shape,
    Step,
    random_model,
    stored_vectors,
)
from epalm.model.engine.language_model import freeze
from epalm.model.engine.model_batch import Batch
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.tasks.types import MediaItem
from epalm.train.data.cached_text_states import CachedTextStates, open_text_states
from epalm.train.data.tokenized_texts import Text

LOSS_WEIGHT, LR, WEIGHT_DECAY = 0.1, 2e-5, 0.02
"""As published."""

TOGETHER = 5
"""Questions of a picture that share a batch; VQA v2 has 5.4 on average."""


@dataclass(frozen=True)
class Way:
    """One way to take a step.

    Attributes:
        name: of the line.
        reference: name of the released code's way to train the same parts.
        loss: batch with vectors -> (B) losses per sample.
        weights: what is trained.
        arrangement: how texts become batches.
        lower: opens the stored states of texts; None to compute them in every step.
    """

    name: str
    reference: str
    loss: Callable[[Batch], Tensor]
    weights: Sequence[nn.Parameter]
    arrangement: Arrangement = field(default_factory=Arrangement)
    lower: Callable[[], CachedTextStates] | None = None


def ways(lm: OPTForCausalLM, texts: Sequence[Text], folder: Path) -> list[Way]:
    """Every way to train the full variant and `lin`; ours keep frozen weights as training does.

    Args:
        lm: the frozen language model.
        texts: all that will be trained on.
        folder: where states of texts are stored.
    """
    blocked = twin(lm)
    rearranged = use_onednn_layout(blocked)
    made = []
    for variant in ("full", "lin"):
        reference = f"{variant}: official, cached"
        official = OfficialModel(random_model(lm, variant, tail="official"))
        weights = [weight for weight in official.parameters() if weight.requires_grad]
        made.append(Way(reference, reference, official, weights))
        if rearranged:
            name = f"{variant}: ours, plain weights"
            made.append(_ours(name, reference, random_model(lm, variant), Arrangement()))
        model = random_model(blocked, variant)
        for name, arrangement in _arrangements().items():
            made.append(_ours(f"{variant}: {name}", reference, model, arrangement))
        if model.can_cache_text_states:
            lower = partial(open_text_states, folder, model, texts, digest="random", quiet=True)
            made += [
                replace(way, name=f"{way.name}, texts kept", lower=lower)
                for way in made
                if way.name in (f"{variant}: {name}" for name in _arrangements())
            ]
        own_tail = random_model(blocked, variant, tail="official")
        name = f"{variant}: ours, official tail"
        made.append(_ours(name, reference, own_tail, Arrangement()))
    return made


def twin(lm: OPTForCausalLM) -> OPTForCausalLM:
    """The same weights in other modules."""
    with torch.device("meta"):
        model = OPTForCausalLM(copy.deepcopy(lm.config))
    model.load_state_dict(lm.state_dict(), assign=True)
    model.tie_weights()
    return freeze(model)


def _arrangements() -> dict[str, Arrangement]:
    grouped = f"{TOGETHER} a picture"
    return {
        "ours": Arrangement(),
        "ours, buckets": Arrangement(buckets=True),
        f"ours, buckets, {grouped}": Arrangement(TOGETHER, buckets=True),
        f"ours, buckets, {grouped}, answers": Arrangement(
            TOGETHER, buckets=True, supervise="answer"
        ),
    }


def _ours(name: str, reference: str, model: EPALM, arrangement: Arrangement) -> Way:
    weights = [weight for _, weight in trainable_parameters(model)]
    return Way(name, reference, _per_example(model), weights, arrangement)


def _per_example(model: EPALM) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        found: Tensor = model(batch).per_example()
        return found

    return loss


class Stepper:
    """Takes training steps and measures them."""

    def __init__(self, questions: Questions) -> None:
        """Prepare the stored vectors."""
        self._lower: dict[Callable[[], CachedTextStates], CachedTextStates] = {}
        self._questions = questions
        self._device = questions.device
        self._vectors = stored_vectors(questions.device)

    def variant(self, way: Way) -> Variant:
        """The steps of a round."""
        optimizer = torch.optim.AdamW(way.weights, lr=LR, weight_decay=WEIGHT_DECAY)
        loss = self._loss(way)

        def run(number: int) -> Sample:
            steps = self._questions.batches(number, way.arrangement)
            synchronise(self._device)
            with Watch() as watch:
                for step in steps:
                    optimizer.zero_grad(set_to_none=True)
                    loss(step).backward()
                    optimizer.step()
                synchronise(self._device)
            return watch.sample(len(steps) * self._questions.batch_size)

        return run

    def flops(self, way: Way) -> int:
        """Of one sample's forward and backward pass, counted while they are computed."""
        steps = self._questions.batches(0, way.arrangement)
        loss = self._loss(way)
        blocked = {torch.ops.mkldnn._linear_pointwise: _linear_flops}
        with FlopCounterMode(display=False, custom_mapping=blocked) as counter:
            for step in steps:
                loss(step).backward()
        return int(counter.get_total_flops()) // (len(steps) * self._questions.batch_size)

    def _loss(self, way: Way) -> Callable[[Step], Tensor]:
        """From what is stored to the scalar that is minimised."""
        if way.lower and way.lower not in self._lower:
            self._lower[way.lower] = way.lower()
        lower = self._lower[way.lower] if way.lower else None

        def loss(step: Step) -> Tensor:
            tokens = self._vectors.index_select(0, step.batch.features)
            states = lower.read(step.texts).to(self._device) if lower else None
            return (
                LOSS_WEIGHT
                * way.loss(replace(step.batch, features=tokens, text_states=states)).mean()
            )

        return loss


def _linear_flops(
    states: torch.Size, weight: torch.Size, *ignored: object, out_shape: torch.Size
) -> int:
    """Of a product with a rearranged weight, which torch does not count by itself."""
    del weight, ignored
    return 2 * math.prod(states) * out_shape[-1]


def synchronise(device: str) -> None:
    """Wait for what was started."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def photo_variant(encoder: OnlineEncoder, items: Sequence[MediaItem], steps: int) -> Variant:
    """What the released code does with pictures in every step of a round.

    Args:
        encoder: on its device.
        items: a batch of pictures, taken again in every step.
        steps: of a round.
    """

    def run(_number: int) -> Sample:
        with Watch() as watch:
            for _ in range(steps):
                encoder.encode(items).sum().item()  # waits for the device
        return watch.sample(steps * len(items))

    return run


def multiply_variant(rows: int, shape: Shape, dtype: torch.dtype, device: str) -> Variant:
    """The two products of a feed-forward block; its work is counted in floating-point operations.

    Args:
        rows: of the states.
        shape: whose widths are taken.
        dtype: of all matrices.
        device: where they are.
    """
    states = torch.randn(rows, shape.width, device=device).to(dtype)
    up = torch.randn(4 * shape.width, shape.width, device=device).to(dtype)
    repeats = min(20, max(1, int(2e11 / (rows * shape.width**2))))

    def run(_number: int) -> Sample:
        synchronise(device)
        with Watch() as watch:
            for _ in range(repeats):
                _ = (states @ up.T) @ up
            synchronise(device)
        return watch.sample(repeats * 2 * 2 * rows * up.numel())

    return run
