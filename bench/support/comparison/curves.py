"""The validation loss of a training over its CPU time."""

from itertools import pairwise
from typing import TypeAlias

Curve: TypeAlias = list[tuple[int, float, float]]
"""Steps, CPU seconds so far and validation loss in nats per token, at each validation."""


def seconds_to(curve: Curve, loss: float) -> float:
    """CPU seconds to a loss, interpolated between validations; infinite if it is never reached."""
    if curve[0][2] <= loss:
        return curve[0][1]
    for (_, start, above), (_, end, below) in pairwise(curve):
        if below <= loss:
            return start + (above - loss) / (above - below) * (end - start)
    return float("inf")
