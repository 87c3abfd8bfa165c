"""Pretrain the small TimeSformer as a classifier of generated videos, in two stages.

A linear head on the final [CLS] token predicts every fact: what moves, in which direction and how
fast, and what the other shape does. No text is involved.
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerModel

from epalm.console import Ticker
from epalm.demo.worlds.clips import (
    DIRECTIONS,
    MAX_BLINKS,
    RADII_PIXELS,
    SLOT_FRAMES,
    SLOTS,
    TRAVEL_PIXELS,
    Clip,
    draw_clip,
)
from epalm.demo.worlds.scenes import SHAPES, SIDE_PIXELS
from epalm.extract.transforms.image_preset import CLIP_MEAN, CLIP_STD
from tools.pretraining.multi_head_loss import multi_head_accuracy, multi_head_loss
from tools.pretraining.pretraining_schedule import cosine_schedule, optimizer_step
from tools.pretraining.varied_clips import VARIED_COLORS, make_varied_clip

BATCH = 16
WARMUP_STEPS = 200
WEIGHT_DECAY = 0.05

WIDTH = 64
DEPTH = 6
HEADS = 4
INNER_WIDTH = 96
PATCH_PIXELS = 16

INITIAL_STD = 0.08
"""Larger than the 0.02 of published models, which suits widths of hundreds."""

SINE_AMPLITUDE = {"time": 2.0, "place": 1.0}
"""Amplitude of the sines that `add_sinusoids` adds; patch embeddings have a standard deviation of
6.6."""


@dataclass(frozen=True)
class Stage:
    """One stage of pretraining: number of steps, learning rate and stream of clips."""

    steps: int
    rate: float
    stream: str


STAGES = (
    Stage(9000, 1.5e-3, "pretrain-timesformer"),
    Stage(3200, 1e-3, "pretrain-timesformer-order"),
)
STEPS = sum(stage.steps for stage in STAGES)

COLOR_WORDS = tuple(VARIED_COLORS)
DIRECTION_WORDS = tuple(DIRECTIONS)
TREND_WORDS = tuple(RADII_PIXELS)

TRAVEL_BOUNDS = (TRAVEL_PIXELS["slow"][1], TRAVEL_PIXELS["fast"][0])
"""Distances up to the first bound are slow, from the second on fast, and neither in between."""

CLASSES = (
    len(DIRECTION_WORDS),
    len(TRAVEL_BOUNDS) + 1,
    len(SHAPES),
    len(COLOR_WORDS),
    len(SHAPES) + 1,
    len(COLOR_WORDS) + 1,
    len(TREND_WORDS) + 1,
    MAX_BLINKS + 1,
)
"""Number of classes of each group: direction, distance, shape and color of the moving shape, then
shape, color, trend and number of blinks of the other one, which are 0 if there is none."""


def build_timesformer() -> TimesformerModel:
    """A TimeSformer with random weights."""
    config = TimesformerConfig(
        image_size=SIDE_PIXELS,
        patch_size=PATCH_PIXELS,
        num_frames=SLOTS,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=INNER_WIDTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=INITIAL_STD,
    )
    return TimesformerModel(config)


def labels(clip: Clip) -> list[int]:
    """The correct class of every group in `CLASSES`."""
    mover, stayer = clip.mover, clip.stayer
    slowest_middle, slowest_fast = TRAVEL_BOUNDS
    classes = [
        DIRECTION_WORDS.index(mover.direction),
        (mover.travel > slowest_middle) + (mover.travel >= slowest_fast),
        SHAPES.index(mover.shape),
        COLOR_WORDS.index(mover.color),
    ]
    if stayer is None:
        return [*classes, 0, 0, 0, 0]
    return [
        *classes,
        1 + SHAPES.index(stayer.shape),
        1 + COLOR_WORDS.index(stayer.color),
        1 + TREND_WORDS.index(stayer.trend),
        len(stayer.hidden),
    ]


def clip_batch(stream: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the clips `stream`/start, `stream`/start+1, ...; one frame per slot.

    Returns:
        (count, frames, 3, side, side) float32 normalized pixels; (count, groups) int64 classes.
    """
    clips = [make_varied_clip(f"{stream}/{start + offset}") for offset in range(count)]
    pixels = torch.stack([normalized(draw_clip(clip, _drawn_frames(clip))) for clip in clips])
    return pixels, torch.tensor([labels(clip) for clip in clips])


def normalized(frames: NDArray[np.uint8]) -> Tensor:
    """(T, side, side, 3) RGB -> (T, 3, side, side) float32, with CLIP's mean and deviation."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - mean) / std


def _drawn_frames(clip: Clip) -> tuple[int, ...]:
    rng = random.Random(f"{clip.name}/frames")
    return tuple(slot * SLOT_FRAMES + rng.randrange(SLOT_FRAMES) for slot in range(SLOTS))


def pretrain_timesformer(tick: Ticker, *, seed: int = 0) -> tuple[TimesformerModel, nn.Linear]:
    """Train from random weights in two stages; every batch has new clips.

    Args:
        tick: called once per step.
        seed: random seed of the initial weights.

    Returns:
        The encoder and its classifier.
    """
    torch.manual_seed(seed)
    model = build_timesformer()
    train_stage(model, STAGES[0], tick)
    return train_second_stage(model, tick, seed=seed)


def train_second_stage(
    model: TimesformerModel, tick: Ticker, *, seed: int = 0
) -> tuple[TimesformerModel, nn.Linear]:
    """Train the second stage, from the weights of the first rounded to float16.

    After the first stage the model does not know the order of frames. Time embeddings start at
    zero; the first and last become similar and differ from the middle. From these the model can
    tell how far a shape moves and how often it blinks, but not its direction or whether it grows.
    """
    torch.manual_seed(seed + 1)
    model = model.half().float()
    add_sinusoids(model)
    return model, train_stage(model, STAGES[1], tick)


def add_sinusoids(model: TimesformerModel) -> None:
    """Add sines to the embeddings of time and position, in place."""
    side = SIDE_PIXELS // PATCH_PIXELS
    along = sinusoids(side, WIDTH // 2)
    grid = torch.cat([along.repeat_interleave(side, dim=0), along.repeat(side, 1)], dim=1)
    embeddings: Any = model.embeddings
    with torch.no_grad():
        embeddings.time_embeddings += SINE_AMPLITUDE["time"] * sinusoids(SLOTS, WIDTH)
        embeddings.position_embeddings[0, 1:] += SINE_AMPLITUDE["place"] * grid


def sinusoids(positions: int, width: int) -> Tensor:
    """(positions, width) sines and cosines.

    The slowest has a quarter period over all positions, the fastest a quarter period per position.
    """
    powers = torch.arange(width // 2) / (width // 2 - 1)
    angles = torch.arange(positions)[:, None] * (torch.pi / 2 / positions) * positions**powers
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def train_stage(model: TimesformerModel, stage: Stage, tick: Ticker) -> nn.Linear:
    """Train the encoder in place together with a new classifier, which is returned."""
    head = nn.Linear(WIDTH, sum(CLASSES))
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=stage.rate, weight_decay=WEIGHT_DECAY)
    schedule = cosine_schedule(optimizer, stage.steps, warmup=WARMUP_STEPS)
    for step in range(stage.steps):
        pixels, classes = clip_batch(stage.stream, step * BATCH, BATCH)
        logits = head(model(pixels).last_hidden_state[:, 0])
        loss = multi_head_loss(logits, classes, CLASSES)
        optimizer_step(loss, optimizer, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return head


def accuracy(model: TimesformerModel, head: nn.Linear, count: int) -> list[float]:
    """Accuracy of each group on `count` held-out clips."""
    pixels, classes = clip_batch("pretrain-timesformer-held-out", 0, count)
    with torch.inference_mode():
        hidden = [model(part).last_hidden_state[:, 0] for part in pixels.split(BATCH)]
        return multi_head_accuracy(head(torch.cat(hidden)), classes, CLASSES).tolist()
