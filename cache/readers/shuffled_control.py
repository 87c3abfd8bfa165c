"""The blind control: what a model still gets right here it owes to the text alone."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import Block, NumpySource, ReadPlan
from epalm.errors import UnknownKeyError


class ShuffledSource(Generic[Block]):
    """Each record answers with the vectors of another one of the same group."""

    def __init__(
        self, source: NumpySource[Block], groups: Iterable[Sequence[str]], seed: int
    ) -> None:
        """Permute within each group.

        Args:
            source: the true store.
            groups: keys that may be exchanged, e.g. the media of one split. A key of several
                groups is permuted within the first; a group of one stays as it is.
            seed: of the permutation.
        """
        self.spec = source.spec
        self._source = source
        self._other: dict[str, str] = {}
        for group in groups:
            fresh = sorted(set(group) - self._other.keys())
            usable = [key for key, ok in zip(fresh, source.valid(fresh), strict=True) if ok]
            order = np.random.default_rng(seed).permutation(len(usable))
            shuffled = [usable[place] for place in order]
            self._other |= dict(zip(shuffled, shuffled[1:] + shuffled[:1], strict=True))

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each record itself could be encoded."""
        return self._source.valid(keys)

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) the row of each record's partner."""
        return self._source.rows(self._partners(keys))

    def read(self, keys: Sequence[str], view: int = 0) -> Block:
        """(B, L, D): the vectors of each key's partner."""
        return self._source.read(self._partners(keys), view)

    def take(self, rows: Rows, views: Rows, out: Block) -> None:
        """See `Vectors.take`; `rows` are partners already."""
        self._source.take(rows, views, out)

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Block]:
        """See `Vectors.stream`; the plan's rows are partners already."""
        return self._source.stream(plan, batch_size)

    def _partners(self, keys: Sequence[str]) -> list[str]:
        try:
            return [self._other[key] for key in keys]
        except KeyError as error:
            raise UnknownKeyError(
                f"{error.args[0]!r} is in no group of the blind control"
            ) from None
