"""The blind control: each sample gets the features of another sample.

What a model still answers correctly then, it answers from the text alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import Batch, FeatureSource, ReadPlan
from epalm.errors import UnknownKeyError


class ShuffledSource(Generic[Batch]):
    """A source that serves, for each sample, the features of another sample of its group."""

    def __init__(
        self, source: FeatureSource[Batch], groups: Iterable[Sequence[str]], seed: int
    ) -> None:
        """Permute the samples within each group.

        Args:
            source: the source to shuffle.
            groups: groups of keys to permute, e.g. the samples of one split. A key in several
                groups belongs to the first of them. A single key in a group stays as it is.
            seed: random seed of the permutation.
        """
        self.spec = source.spec
        self._source = source
        self._partner: dict[str, str] = {}
        for group in groups:
            keys = sorted(set(group) - self._partner.keys())
            valid = [key for key, ok in zip(keys, source.valid(keys), strict=True) if ok]
            order = np.random.default_rng(seed).permutation(len(valid))
            shuffled = [valid[index] for index in order]
            self._partner |= dict(zip(shuffled, shuffled[1:] + shuffled[:1], strict=True))

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample itself could be encoded."""
        return self._source.valid(keys)

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) the row of each sample's partner."""
        return self._source.rows(self._partners(keys))

    def read(self, keys: Sequence[str], view: int = 0) -> Batch:
        """(B, L, D), the features of each sample's partner."""
        return self._source.read(self._partners(keys), view)

    def take(self, rows: Rows, views: Rows, out: Batch) -> None:
        """See `FeatureReader.take`; `rows` are those of the partners."""
        self._source.take(rows, views, out)

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Batch]:
        """See `FeatureReader.stream`; the plan has the rows of the partners."""
        return self._source.stream(plan, batch_size)

    def _partners(self, keys: Sequence[str]) -> list[str]:
        try:
            return [self._partner[key] for key in keys]
        except KeyError as error:
            raise UnknownKeyError(
                f"{error.args[0]!r} is in no group of the blind control"
            ) from None
