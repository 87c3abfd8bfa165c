"""Pretrain the micro TimeSformer: what moves, which way, how fast, and what the other shape does.

A plain supervised classifier over drawn clips: a linear head on the final [CLS] answers one small
question per fact. No text is involved.
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
from epalm.extract.transforms.image_transform import CLIP_MEAN, CLIP_STD
from tools.pretraining.multi_head_loss import grouped_accuracy, grouped_loss
from tools.pretraining.pretraining_schedule import cosine_schedule, descend
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
"""Wider than the 0.02 of published models, which suits widths of some hundreds."""

WAVE_HEIGHT = {"time": 2.0, "place": 1.0}
"""Of the sines that `add_order` adds; the embeddings of patches have a deviation of 6.6."""


@dataclass(frozen=True)
class Round:
    """One round of pretraining: its number of steps, learning rate and stream of clips."""

    steps: int
    rate: float
    stream: str


ROUNDS = (
    Round(9000, 1.5e-3, "pretrain-timesformer"),
    Round(3200, 1e-3, "pretrain-timesformer-order"),
)
STEPS = sum(one.steps for one in ROUNDS)

COLOR_WORDS = tuple(VARIED_COLORS)
DIRECTION_WORDS = tuple(DIRECTIONS)
TREND_WORDS = tuple(RADII_PIXELS)

TRAVEL_BOUNDS = (TRAVEL_PIXELS["slow"][1], TRAVEL_PIXELS["fast"][0])
"""Ways up to the first bound are slow, from the second on fast, between them neither."""

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
"""Sizes of the softmax groups: the mover's direction, travel, shape and color, then the stayer's
shape, color, trend and number of blinks, each of which is 0 where there is none."""


def build_timesformer() -> TimesformerModel:
    """The architecture with random weights."""
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
    """The right class of every softmax group in `CLASSES`."""
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
    """Clips `stream`/start, `stream`/start+1, ... as the model takes them: a frame of each slot.

    Returns:
        pixels (count, frames, 3, side, side) float32, normalized; classes (count, groups) int64.
    """
    clips = [make_varied_clip(f"{stream}/{start + offset}") for offset in range(count)]
    pixels = torch.stack([normalized(draw_clip(clip, _drawn_frames(clip))) for clip in clips])
    return pixels, torch.tensor([labels(clip) for clip in clips])


def normalized(frames: NDArray[np.uint8]) -> Tensor:
    """(T, side, side, 3) RGB as (T, 3, side, side) float32, by CLIP's mean and deviation."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - mean) / std


def _drawn_frames(clip: Clip) -> tuple[int, ...]:
    rng = random.Random(f"{clip.name}/frames")
    return tuple(slot * SLOT_FRAMES + rng.randrange(SLOT_FRAMES) for slot in range(SLOTS))


def pretrain_timesformer(tick: Ticker, *, seed: int = 0) -> tuple[TimesformerModel, nn.Linear]:
    """Train from random weights, in two rounds; every batch is made of fresh clips.

    Args:
        tick: called once per step.
        seed: of the initial weights.

    Returns:
        The encoder and its classifier.
    """
    torch.manual_seed(seed)
    model = build_timesformer()
    train_round(model, ROUNDS[0], tick)
    return teach_order(model, tick, seed=seed)


def teach_order(
    model: TimesformerModel, tick: Ticker, *, seed: int = 0
) -> tuple[TimesformerModel, nn.Linear]:
    """The second round, on the weights of the first as float16 holds them.

    The first one learns all but the order of frames: time embeddings begin as zeros, and from
    there the ends become alike and unlike the middle, which tells how far and how often, not
    where to or whether a shape grows.
    """
    torch.manual_seed(seed + 1)
    model = model.half().float()
    add_order(model)
    return model, train_round(model, ROUNDS[1], tick)


def add_order(model: TimesformerModel) -> None:
    """Add sines to the embeddings of time and place, in place."""
    side = SIDE_PIXELS // PATCH_PIXELS
    along = waves(side, WIDTH // 2)
    grid = torch.cat([along.repeat_interleave(side, dim=0), along.repeat(side, 1)], dim=1)
    embeddings: Any = model.embeddings
    with torch.no_grad():
        embeddings.time_embeddings += WAVE_HEIGHT["time"] * waves(SLOTS, WIDTH)
        embeddings.position_embeddings[0, 1:] += WAVE_HEIGHT["place"] * grid


def waves(places: int, width: int) -> Tensor:
    """(places, width): sines and cosines, from a quarter wave over all places to one a place."""
    powers = torch.arange(width // 2) / (width // 2 - 1)
    angles = torch.arange(places)[:, None] * (torch.pi / 2 / places) * places**powers
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def train_round(model: TimesformerModel, this: Round, tick: Ticker) -> nn.Linear:
    """Train the encoder and a new classifier, which is returned."""
    head = nn.Linear(WIDTH, sum(CLASSES))
    weights = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=this.rate, weight_decay=WEIGHT_DECAY)
    schedule = cosine_schedule(optimiser, this.steps, warmup=WARMUP_STEPS)
    for step in range(this.steps):
        pixels, classes = clip_batch(this.stream, step * BATCH, BATCH)
        logits = head(model(pixels).last_hidden_state[:, 0])
        loss = grouped_loss(logits, classes, CLASSES)
        descend(loss, optimiser, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return head


def accuracy(model: TimesformerModel, head: nn.Linear, count: int) -> list[float]:
    """Share of right classes of each group, over `count` clips of another stream."""
    pixels, classes = clip_batch("pretrain-timesformer-held-out", 0, count)
    with torch.inference_mode():
        hidden = [model(part).last_hidden_state[:, 0] for part in pixels.split(BATCH)]
        return grouped_accuracy(head(torch.cat(hidden)), classes, CLASSES).tolist()
