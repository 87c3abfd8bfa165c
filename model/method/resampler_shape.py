"""Shape of a resampler, a table of recipes.

This module imports no torch, so that settings are checked before slow imports.
"""

from dataclasses import dataclass

from epalm.number_ranges import RESAMPLER_RANGES, check_ranges


@dataclass(frozen=True)
class ResamplerShape:
    """Numbers that determine a resampler, see `epalm.model.method.resampler`.

    Attributes:
        queries: number of learned queries, each of which becomes a visual token.
        layers: number of blocks of cross-attention and feed-forward network.
        width: width of queries and blocks; 0 for the encoder's.
    """

    queries: int = 32
    layers: int = 2
    width: int = 0

    def __post_init__(self) -> None:
        """Reject numbers out of range.

        Raises:
            UsageError: names the key, its value and the valid range.
        """
        check_ranges(self, RESAMPLER_RANGES)


DEFAULT_RESAMPLER = ResamplerShape()
"""The shape where a recipe has no table `resampler`."""
