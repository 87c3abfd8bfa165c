"""Ranges that numbers of recipes and of generation have to be in; needs no other library."""

from collections.abc import Mapping
from dataclasses import dataclass

from epalm.errors import UsageError


@dataclass(frozen=True)
class Range:
    """An interval of numbers; NaN is in none.

    Attributes:
        low: smallest value.
        high: largest value.
        open_low: whether `low` itself is left out.
        open_high: whether `high` itself is left out.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def violated(self, value: float) -> str:
        """What was wanted in place of a value outside, in words; empty for a value inside."""
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
"""Numbers of `epalm.model.method.model_settings.Decoding`, which are keys of recipes too."""

MODEL_RANGES: Mapping[str, Range] = {
    "encoder_width": Range(1, 1_000_000),
    "cached": Range(1, 10_000),
    "positions": Range(1, 1_000_000),
    "prompt_length": Range(0, 65_536),
    "text_step": Range(0, 1000, open_low=True),
    "lm_dropout": Range(0, 1, open_high=True),
}
"""Numbers of `epalm.model.method.model_settings.ModelSettings`; some are keys of recipes too."""


def check_ranges(
    values: object, ranges: Mapping[str, Range], kind: type[UsageError] = UsageError
) -> None:
    """Refuse numbers outside their range.

    Args:
        values: has an attribute of each name.
        ranges: name -> range.
        kind: class of the error.

    Raises:
        UsageError: names the first such number, what was found and what was wanted.
    """
    for name, interval in ranges.items():
        check_range(name, getattr(values, name), interval, kind)


def check_range(
    name: str, value: float, interval: Range, kind: type[UsageError] = UsageError
) -> None:
    """Refuse one number outside its range; see `check_ranges`."""
    wanted = interval.violated(value)
    if wanted:
        raise kind(f"{name} is {value}, wanted {wanted}")
