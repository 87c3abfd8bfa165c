"""Pretrain the small vision transformer as a classifier of generated images.

A linear head on the final [CLS] token predicts color, count, size and side of every shape, and the
shape of every color. No text is involved.
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
from tools.pretraining.multi_head_loss import multi_head_accuracy, multi_head_loss
from tools.pretraining.pretraining_schedule import cosine_schedule, optimizer_step

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
"""Number of classes of each group: color, count, size and side for every shape, then the shape for
every color. Class 0 means that the scene has no such shape or color."""


def labels(scene: Scene) -> list[int]:
    """The correct class of every group in `CLASSES`."""
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
    """Pixels and labels of the scenes `stream`/start, `stream`/start+1, ...

    Returns:
        (count, 3, side, side) float32 normalized pixels; (count, groups) int64 classes.
    """
    scenes = [make_scene(f"{stream}/{start + offset}") for offset in range(count)]
    images = np.stack([np.asarray(draw_scene(scene)) for scene in scenes])
    mean, std = (torch.tensor(CONFIG[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - mean) / std, torch.tensor([labels(scene) for scene in scenes])


def accuracy(model: VisionTransformer, stream: str, count: int) -> float:
    """Mean accuracy over all groups on `count` scenes of this stream."""
    pixels, classes = scene_batch(stream, 0, count)
    with torch.inference_mode():
        logits = model.eval()(pixels)
    return float(multi_head_accuracy(logits, classes, CLASSES).mean())


def pretrain_vit(tick: Ticker, *, steps: int = STEPS, seed: int = 0) -> VisionTransformer:
    """Train from random weights; every batch has new scenes.

    Args:
        tick: called once per step.
        steps: number of optimizer steps with `BATCH` scenes each.
        seed: random seed of the initial weights.
    """
    torch.manual_seed(seed)
    model = build_vit(classes=sum(CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = cosine_schedule(optimizer, steps, warmup=WARMUP_STEPS)
    for step in range(steps):
        pixels, classes = scene_batch("pretrain-vit", step * BATCH, BATCH)
        loss = multi_head_loss(model(pixels), classes, CLASSES)
        optimizer_step(loss, optimizer, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return model
