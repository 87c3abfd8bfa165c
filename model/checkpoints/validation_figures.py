"""Figures of a validation in metrics.jsonl that are no scores, and the one that selects the epoch.

Scores are fractions of which more is better. The figures here are nats per token.
"""

import math
from collections.abc import Iterable, Mapping

LOSS = "loss"
"""Mean loss per token of the validation examples' answers."""

IMAGE_GAIN = "image_gain"
"""Mean loss with the features of other samples, minus `LOSS`."""

IMAGE_GAIN_INTERVAL = ("image_gain_low", "image_gain_high")
"""Ends of the 95 % interval of `IMAGE_GAIN`."""

IN_NATS = frozenset((LOSS, IMAGE_GAIN, *IMAGE_GAIN_INTERVAL))
"""All of them; every other field of a validation is a score."""

NOT_FIGURES = frozenset(("kind", "step", "epoch"))
"""Fields of a line of metrics.jsonl that only say what the line is about."""


def quality(name: str, value: float) -> float:
    """The value of a figure, with the sign that makes more better."""
    return -value if name == LOSS else value


def selecting_figure(names: Iterable[str]) -> str | None:
    """The figure that selects the epoch, the first of a line; None for a line without figures."""
    return next((name for name in names if name not in NOT_FIGURES), None)


def selecting_quality(figures: Mapping[str, float]) -> float:
    """Quality of the figure that selects the epoch; the lowest there is for a line without one."""
    name = selecting_figure(figures)
    return quality(name, figures[name]) if name else -math.inf


def describe_figures(figures: Mapping[str, float]) -> str:
    """Scores times 100, loss and image gain: "exact_match 50.00, loss 1.2345 nats per token"."""
    scores = [f"{name} {100 * value:.2f}" for name, value in figures.items() if name not in IN_NATS]
    nats = [f"loss {figures[LOSS]:.4f}"] if LOSS in figures else []
    if IMAGE_GAIN in figures:
        nats.append(f"image gain {describe_gain(figures)}")
    return ", ".join([*scores, *nats]) + " nats per token" * bool(nats)


def describe_gain(figures: Mapping[str, float]) -> str:
    """The image gain with its interval, if it has one: "0.0419 (0.0312 to 0.0526)"."""
    ends = [f"{figures[name]:.4f}" for name in IMAGE_GAIN_INTERVAL if name in figures]
    return f"{figures[IMAGE_GAIN]:.4f}" + (f" ({' to '.join(ends)})" if ends else "")
