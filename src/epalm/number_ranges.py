"""Valid ranges of the numbers in recipes and of generation settings."""

from collections.abc import Mapping
from dataclasses import dataclass

from epalm.errors import UsageError


@dataclass(frozen=True)
class Range:
    """An interval of numbers; NaN is in no interval.

    Attributes:
        low: smallest value.
        high: largest value.
        open_low: whether `low` itself is excluded.
        open_high: whether `high` itself is excluded.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def violated(self, value: float) -> str:
        """Describe the violated bound of a value outside the range; empty for a value inside."""
        if not (value > self.low if self.open_low else value >= self.low):
            return f"more than {self.low:g}" if self.open_low else f"{self.low:g} or more"
        if not (value < self.high if self.open_high else value <= self.high):
            return f"less than {self.high:g}" if self.open_high else f"at most {self.high:,}"
        return ""


DECODING_RANGES: Mapping[str, Range] = {
    "max_new_tokens": Range(0, 100_000, open_low=True),
    "num_beams": Range(0, 1000, open_low=True),
    "temperature": Range(0, 1000, open_low=True),
    "top_p": Range(0, 1, open_low=True),
}
"""Ranges of `epalm.model.method.model_settings.Decoding`, whose fields are recipe keys, too."""

SOURCE_RANGES: Mapping[str, Range] = {
    "encoder_width": Range(1, 1_000_000),
    "features": Range(1, 10_000_000_000),
    "positions": Range(1, 1_000_000),
    "injected_tokens": Range(1, 1_000_000),
}
"""Ranges of `epalm.model.method.model_settings.SourceSettings`."""

MODEL_RANGES: Mapping[str, Range] = {
    **{name: SOURCE_RANGES[name] for name in ("encoder_width", "positions", "injected_tokens")},
    "cached": Range(1, 10_000),
    "prompt_length": Range(0, 65_536),
    "text_step": Range(0, 1000, open_low=True),
    "lm_dropout": Range(0, 1, open_high=True),
}
"""Ranges of `epalm.model.method.model_settings.ModelSettings`; some are recipe keys, too."""

RESAMPLER_RANGES: Mapping[str, Range] = {
    "queries": Range(1, 65_536),
    "layers": Range(1, 1000),
    "width": Range(0, 65_536),
}
"""Ranges of `epalm.model.method.resampler_shape.ResamplerShape`, a table of recipes."""


def check_ranges(
    values: object, ranges: Mapping[str, Range], kind: type[UsageError] = UsageError
) -> None:
    """Refuse numbers outside their range.

    Args:
        values: object with an attribute for each name.
        ranges: name -> range.
        kind: class of the error to raise.

    Raises:
        UsageError: a number is outside its range; the message names it and the range.
    """
    for name, interval in ranges.items():
        check_range(name, getattr(values, name), interval, kind)


def check_range(
    name: str, value: float, interval: Range, kind: type[UsageError] = UsageError
) -> None:
    """Refuse one number outside its range; see `check_ranges`."""
    wanted = interval.violated(value)
    if wanted:
        raise kind(f"{name} is {value}, expected {wanted}")
