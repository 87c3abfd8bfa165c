"""The methods of computing a training step that `bench.training` compares, and their timing."""

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
from bench.support.timed_rounds import Sample, Stopwatch, Variant
from bench.support.vqa_workload import (
    BatchLayout,
    Questions,
    Shape,
    Step,
    random_model,
    stored_features,
)
from epalm.model.engine.language_model import freeze
from epalm.model.engine.model_batch import Batch
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.tasks.types import MediaItem
from epalm.train.data.cached_text_states import CachedTextStates, open_text_states
from epalm.train.data.tokenized_texts import Text

LOSS_WEIGHT, LR, WEIGHT_DECAY = 0.1, 2e-5, 0.02
"""The published values."""

QUESTIONS_PER_IMAGE = 5
"""Questions about one image that share a batch; VQA v2 has 5.4 per image on average."""


@dataclass(frozen=True)
class StepMethod:
    """One method of computing a training step.

    Attributes:
        name: name in the table.
        reference: name of the official method that trains the same parts.
        loss: batch with features -> (B) losses per sample.
        weights: trainable parameters.
        layout: how texts are grouped into batches.
        lower: opens the cached text states; None to compute them in every step.
    """

    name: str
    reference: str
    loss: Callable[[Batch], Tensor]
    weights: Sequence[nn.Parameter]
    layout: BatchLayout = field(default_factory=BatchLayout)
    lower: Callable[[], CachedTextStates] | None = None


def step_methods(lm: OPTForCausalLM, texts: Sequence[Text], folder: Path) -> list[StepMethod]:
    """All methods for the variants `full` and `lin`; ours use oneDNN layout, as training does.

    Args:
        lm: the frozen language model.
        texts: all training texts.
        folder: folder of the cached text states.
    """
    blocked = twin(lm)
    rearranged = use_onednn_layout(blocked)
    made = []
    for variant in ("full", "lin"):
        reference = f"{variant}: official, cached"
        official = OfficialModel(random_model(lm, variant, tail="official"))
        weights = [weight for weight in official.parameters() if weight.requires_grad]
        made.append(StepMethod(reference, reference, official, weights))
        if rearranged:
            name = f"{variant}: ours, plain layout"
            made.append(our_method(name, reference, random_model(lm, variant), BatchLayout()))
        model = random_model(blocked, variant)
        for name, layout in _layouts().items():
            made.append(our_method(f"{variant}: {name}", reference, model, layout))
        if model.can_cache_text_states:
            lower = partial(open_text_states, folder, model, texts, digest="random", quiet=True)
            made += [
                replace(method, name=f"{method.name}, cached text states", lower=lower)
                for method in made
                if method.name in (f"{variant}: {name}" for name in _layouts())
            ]
        own_tail = random_model(blocked, variant, tail="official")
        name = f"{variant}: ours, official tail"
        made.append(our_method(name, reference, own_tail, BatchLayout()))
    return made


def twin(lm: OPTForCausalLM) -> OPTForCausalLM:
    """New modules that share the weights of `lm`."""
    with torch.device("meta"):
        model = OPTForCausalLM(copy.deepcopy(lm.config))
    model.load_state_dict(lm.state_dict(), assign=True)
    model.tie_weights()
    return freeze(model)


def _layouts() -> dict[str, BatchLayout]:
    grouped = f"{QUESTIONS_PER_IMAGE} per image"
    return {
        "ours": BatchLayout(),
        "ours, buckets": BatchLayout(buckets=True),
        f"ours, buckets, {grouped}": BatchLayout(QUESTIONS_PER_IMAGE, buckets=True),
        f"ours, buckets, {grouped}, answers": BatchLayout(
            QUESTIONS_PER_IMAGE, buckets=True, supervise="answer"
        ),
    }


def our_method(
    name: str,
    reference: str,
    model: EPALM,
    layout: BatchLayout,
    *,
    lower: Callable[[], CachedTextStates] | None = None,
) -> StepMethod:
    """A method that trains a model of this project; for the arguments see `StepMethod`."""
    weights = [weight for _, weight in trainable_parameters(model)]
    return StepMethod(name, reference, _per_example(model), weights, layout, lower)


def _per_example(model: EPALM) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        losses: Tensor = model(batch).per_example()
        return losses

    return loss


class StepTimer:
    """Runs training steps and measures them."""

    def __init__(self, questions: Questions) -> None:
        """Prepare the stored features."""
        self._lower: dict[Callable[[], CachedTextStates], CachedTextStates] = {}
        self._questions = questions
        self._device = questions.device
        self._features = stored_features(questions.device)

    def variant(self, method: StepMethod) -> Variant:
        """A variant that runs the steps of a round."""
        optimizer = torch.optim.AdamW(method.weights, lr=LR, weight_decay=WEIGHT_DECAY)
        loss = self._loss(method)

        def run(number: int) -> Sample:
            steps = self._questions.batches(number, method.layout)
            synchronize(self._device)
            with Stopwatch() as stopwatch:
                for step in steps:
                    optimizer.zero_grad(set_to_none=True)
                    loss(step).backward()
                    optimizer.step()
                synchronize(self._device)
            return stopwatch.sample(len(steps) * self._questions.batch_size)

        return run

    def flops(self, method: StepMethod) -> int:
        """Floating-point operations of one sample's forward and backward pass, by counting."""
        steps = self._questions.batches(0, method.layout)
        loss = self._loss(method)
        blocked = {torch.ops.mkldnn._linear_pointwise: _linear_flops}
        with FlopCounterMode(display=False, custom_mapping=blocked) as counter:
            for step in steps:
                loss(step).backward()
        return int(counter.get_total_flops()) // (len(steps) * self._questions.batch_size)

    def _loss(self, method: StepMethod) -> Callable[[Step], Tensor]:
        """The scalar training loss as a function of a step."""
        if method.lower and method.lower not in self._lower:
            self._lower[method.lower] = method.lower()
        lower = self._lower[method.lower] if method.lower else None

        def loss(step: Step) -> Tensor:
            tokens = self._features.index_select(0, step.batch.features)
            states = lower.read(step.texts).to(self._device) if lower else None
            return (
                LOSS_WEIGHT
                * method.loss(replace(step.batch, features=tokens, text_states=states)).mean()
            )

        return loss


def _linear_flops(
    states: torch.Size, weight: torch.Size, *ignored: object, out_shape: torch.Size
) -> int:
    """Operations of a product with a weight in oneDNN layout, which torch does not count itself."""
    del weight, ignored
    return 2 * math.prod(states) * out_shape[-1]


def synchronize(device: str) -> None:
    """Wait until all kernels have finished."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def image_variant(encoder: OnlineEncoder, items: Sequence[MediaItem], steps: int) -> Variant:
    """A variant that encodes the images of every step, as the official implementation does.

    Args:
        encoder: the encoder, on its device.
        items: a batch of images, used again in every step.
        steps: number of steps per round.
    """

    def run(_number: int) -> Sample:
        with Stopwatch() as stopwatch:
            for _ in range(steps):
                encoder.encode(items).sum().item()  # waits for the device
        return stopwatch.sample(steps * len(items))

    return run


def multiply_variant(rows: int, shape: Shape, dtype: torch.dtype, device: str) -> Variant:
    """A variant that computes the two matrix products of a feed-forward block; its unit is FLOP.

    Args:
        rows: number of tokens.
        shape: shape of the language model, which gives the widths.
        dtype: dtype of all matrices.
        device: device of all matrices.
    """
    states = torch.randn(rows, shape.width, device=device).to(dtype)
    up = torch.randn(4 * shape.width, shape.width, device=device).to(dtype)
    repeats = min(20, max(1, int(2e11 / (rows * shape.width**2))))

    def run(_number: int) -> Sample:
        synchronize(device)
        with Stopwatch() as stopwatch:
            for _ in range(repeats):
                _ = (states @ up.T) @ up
            synchronize(device)
        return stopwatch.sample(repeats * 2 * 2 * rows * up.numel())

    return run
