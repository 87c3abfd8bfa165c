"""The learning-rate schedule of both pretraining scripts."""

import math

FINAL_FACTOR = 0.02


def cosine_factor(step: int, steps: int, *, warmup: int) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine down to `FINAL_FACTOR`."""
    wave = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return min(1.0, (step + 1) / warmup) * (FINAL_FACTOR + (1 - FINAL_FACTOR) * wave)
