"""A source that serves the mean of each sample's features over several views."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import NumpySource, ReadPlan, batches_of
from epalm.errors import UsageError


class ViewMeanSource:
    """The features of a store, averaged over its first views: view 0 and augmented ones."""

    def __init__(self, source: NumpySource, views: int) -> None:
        """Average over the first `views` views of a source that has been opened with them.

        Raises:
            UsageError: the store has fewer views.
        """
        self.spec = source.spec
        if views > self.spec.views:
            raise UsageError(
                f"--views {views} averages over {views} views, the store has {self.spec.views}: "
                f"give at most {self.spec.views}, or extract more with `epalm-extract --encoder "
                f"{self.spec.encoder} --dataset {self.spec.dataset} --views {views}`"
            )
        self._source = source
        self._views = views

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample could be encoded."""
        return self._source.valid(keys)

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) the row of each sample."""
        return self._source.rows(keys)

    def read(self, keys: Sequence[str], view: int = 0) -> Features:
        """(B, L, D), the mean over the views; `view` is the first of them.

        The mean is computed in float32 and rounded to the store's dtype.
        """
        rows = self.rows(keys)
        out = np.empty((len(rows), *self.spec.row_shape[1:]), self.spec.dtype)
        self.take(rows, np.full(len(rows), view), out)
        return out

    def take(self, rows: Rows, views: Rows, out: Features) -> None:
        """See `FeatureReader.take`; the mean over the views, beginning with `views`."""
        total = np.zeros(out.shape, np.float32)
        for offset in range(self._views):
            self._source.take(rows, (views + offset) % self._views, out)
            total += out
        out[...] = total / self._views

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Features]:
        """See `FeatureReader.stream`."""
        for rows, views in batches_of(plan, batch_size):
            out = np.empty((len(rows), *self.spec.row_shape[1:]), self.spec.dtype)
            self.take(rows, views, out)
            yield out
