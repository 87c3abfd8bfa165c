"""Pretrain the micro vision transformer: which shapes, in which colors, how many, how big, where.

A plain supervised classifier over drawn scenes: a linear head on the final [CLS] answers one small
question per shape and attribute and one per color. No text is involved.
"""

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from epalm.console import Ticker
from epalm.demo.encoder import CONFIG, build_vit
from epalm.demo.worlds.scenes import (
    COLORS,
    MAX_COUNT,
    RADIUS_PIXELS,
    SHAPES,
    SIDES,
    Scene,
    draw_scene,
    make_scene,
)
from tools.pretraining.multi_head_loss import grouped_accuracy, grouped_loss
from tools.pretraining.pretraining_schedule import cosine_schedule, descend

STEPS = 6000
BATCH = 64
LEARNING_RATE = 1.5e-3
WARMUP_STEPS = 200
WEIGHT_DECAY = 0.05

SIZE_WORDS = tuple(RADIUS_PIXELS)
SIDE_WORDS = tuple(side for pair in SIDES.values() for side in pair)
COLOR_WORDS = tuple(COLORS)

HEAD = "head."
"""Prefix of the classifier's weights, which extraction does not use."""

CLASSES = (len(COLOR_WORDS) + 1, MAX_COUNT + 1, len(SIZE_WORDS) + 1, len(SIDE_WORDS) + 1) * len(
    SHAPES
) + (len(SHAPES) + 1,) * len(COLOR_WORDS)
"""Sizes of the softmax groups: per shape its color, count, size and side, then per color its
shape. Class 0 of each group says that the scene has no such shape or color."""


def labels(scene: Scene) -> list[int]:
    """The right class of every softmax group in `CLASSES`."""
    by_shape = {group.shape: group for group in scene.groups}
    by_color = {group.color: group for group in scene.groups}
    classes: list[int] = []
    for shape in SHAPES:
        group = by_shape.get(shape)
        if group is None:
            classes += [0, 0, 0, 0]
            continue
        classes.append(1 + COLOR_WORDS.index(group.color))
        classes.append(group.count)
        classes.append(1 + SIZE_WORDS.index(group.size))
        classes.append(1 + SIDE_WORDS.index(group.side))
    for color in COLOR_WORDS:
        group = by_color.get(color)
        classes.append(0 if group is None else 1 + SHAPES.index(group.shape))
    return classes


def scene_batch(stream: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Scenes `stream`/start, `stream`/start+1, ... as the model takes them.

    Returns:
        pixels (count, 3, side, side) float32, normalized; classes (count, groups) int64.
    """
    scenes = [make_scene(f"{stream}/{start + offset}") for offset in range(count)]
    images = np.stack([np.asarray(draw_scene(scene)) for scene in scenes])
    mean, std = (torch.tensor(CONFIG[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - mean) / std, torch.tensor([labels(scene) for scene in scenes])


def accuracy(model: VisionTransformer, stream: str, count: int) -> float:
    """Share of right classes over all groups of `count` scenes of another stream."""
    pixels, classes = scene_batch(stream, 0, count)
    with torch.inference_mode():
        logits = model.eval()(pixels)
    return float(grouped_accuracy(logits, classes, CLASSES).mean())


def pretrain_vit(tick: Ticker, *, steps: int = STEPS, seed: int = 0) -> VisionTransformer:
    """Train from random weights; every batch is made of fresh scenes.

    Args:
        tick: called once per step.
        steps: optimiser steps of `BATCH` scenes.
        seed: of the initial weights.
    """
    torch.manual_seed(seed)
    model = build_vit(classes=sum(CLASSES))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = cosine_schedule(optimiser, steps, warmup=WARMUP_STEPS)
    for step in range(steps):
        pixels, classes = scene_batch("pretrain-vit", step * BATCH, BATCH)
        loss = grouped_loss(model(pixels), classes, CLASSES)
        descend(loss, optimiser, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return model
