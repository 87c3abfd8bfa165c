"""Token policies: which tokens of each encoder block a store keeps, as text and as a value."""

import re
from dataclasses import dataclass

from epalm.errors import UsageError

CLS, MEAN, ALL, MAP, POOL = "cls", "mean", "all", "map", "pool"
"""Kinds of token policies."""

AUTO = "auto"
"""`cls` if the encoder has a class token, else `mean`."""

MAX_GRID = 1024
"""Largest number of cells along one axis of `pool:RxC`."""

MAX_TEXT = 40
"""Longest text of a policy, in characters."""

_GRID = re.compile(r"pool:(\d+)x(\d+)(?:x(\d+))?")


@dataclass(frozen=True)
class TokenPolicy:
    """Which tokens of each block are kept.

    Attributes:
        kind: "cls" for the class token; "mean" for the mean of the patch tokens; "pool" for
            averages over the cells of a grid; "all" for every token in the encoder's order; "map"
            for the output of the model's own attention pooling.
        grid: cells of "pool" along the axes: (time,) rows and columns of images and videos, time
            and frequency of sound; () for the other kinds.
    """

    kind: str
    grid: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The value of --tokens, e.g. "pool:2x3"."""
        return f"{self.kind}:{'x'.join(map(str, self.grid))}" if self.grid else self.kind

    @property
    def single(self) -> bool:
        """Whether one token per block is kept whatever the encoder is."""
        return self.kind in (CLS, MEAN, MAP)


def parse_tokens(text: str) -> TokenPolicy:
    """The policy of a value of --tokens other than "auto".

    Raises:
        UsageError: there is no such policy.
    """
    if text in (CLS, MEAN, ALL, MAP):
        return TokenPolicy(text)
    match = _GRID.fullmatch(text) if len(text) <= MAX_TEXT else None
    grid = tuple(int(number) for number in match.groups() if number) if match else ()
    if not grid or not all(1 <= cells <= MAX_GRID for cells in grid):
        raise UsageError(
            f"--tokens {text[:MAX_TEXT]!r}: expected cls, mean, map, all, pool:ROWSxCOLUMNS such "
            f"as pool:4x4, or for videos pool:TIMESxROWSxCOLUMNS, with numbers from 1 to {MAX_GRID}"
        )
    return TokenPolicy(POOL, grid)


def is_policy(text: str) -> bool:
    """Whether text, e.g. from a file, is the policy of a store."""
    return text in (CLS, MEAN, ALL, MAP) or _GRID.fullmatch(text[: MAX_TEXT + 1]) is not None


def check_tokens(text: str) -> None:
    """Refuse a value of --tokens that is no policy of any encoder.

    Raises:
        UsageError: there is no such policy.
    """
    if text != AUTO:
        parse_tokens(text)
