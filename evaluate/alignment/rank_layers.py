"""Encoder layers of feature stores, ranked by their alignment with a language model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.feature_source import NumpySource
from epalm.errors import UsageError
from epalm.evaluate.alignment.mutual_neighbors import Vectors, nearest_neighbors, overlap
from epalm.metrics.intervals import bootstrap_interval

READ_BATCH = 64
"""Samples that are read from a store at one time."""


@dataclass(frozen=True)
class EncoderLayer:
    """Vectors of one layer of an encoder.

    Attributes:
        store: path or URL of the store.
        encoder: name of the encoder.
        block: number of the encoder's block.
        token: what the vector is, e.g. "cls", or "mean of all".
    """

    store: str
    encoder: str
    block: int
    token: str


@dataclass(frozen=True)
class RankedLayer:
    """An encoder layer and how well it is aligned with the language model.

    Attributes:
        layer: the encoder layer.
        by_lm_layer: mutual nearest neighbors with each layer of the language model; 0 is the word
            embeddings.
        best: the layer of the language model with the highest value.
        low: lower end of the 95 % interval of that value, a bootstrap over samples.
        high: upper end of the interval.
    """

    layer: EncoderLayer
    by_lm_layer: tuple[float, ...]
    best: int
    low: float
    high: float

    @property
    def score(self) -> float:
        """The highest value over the language model's layers."""
        return self.by_lm_layer[self.best]


def rank_layers(
    layers: Iterator[tuple[EncoderLayer, Vectors]], lm_states: NDArray[np.float32], count: int
) -> list[RankedLayer]:
    """Rank encoder layers by mutual nearest neighbors, the best first.

    Args:
        layers: each encoder layer with its (N, D) vectors; one is in memory at a time.
        lm_states: (layers + 1, N, H) vectors of the samples' texts.
        count: number of neighbors k, less than N.
    """
    of_texts = [nearest_neighbors(states, count) for states in lm_states]
    ranked = [
        _rank(layer, nearest_neighbors(vectors, count), of_texts) for layer, vectors in layers
    ]
    return sorted(ranked, key=lambda one: -one.score)


def _rank(
    layer: EncoderLayer, neighbors: NDArray[np.intp], of_texts: Sequence[NDArray[np.intp]]
) -> RankedLayer:
    overlaps = [overlap(neighbors, other) for other in of_texts]
    means = tuple(float(one.mean()) for one in overlaps)
    best = max(range(len(means)), key=means.__getitem__)
    low, high = bootstrap_interval(overlaps[best])
    return RankedLayer(layer, means, best, low, high)


def stored_layers(
    source: NumpySource, keys: Sequence[str], *, location: str
) -> Iterator[tuple[EncoderLayer, Vectors]]:
    """Each stored layer with its (N, D) vectors: the one token, or else [CLS] and the mean token.

    Args:
        source: reader of the store.
        keys: the N samples.
        location: path or URL of the store.
    """
    spec = source.spec
    for place, block in enumerate(spec.layers):
        tokens = slice(place * spec.positions, (place + 1) * spec.positions)
        for token, kept in _reductions(source, keys, tokens).items():
            yield EncoderLayer(location, spec.encoder, block, token), kept


def _reductions(source: NumpySource, keys: Sequence[str], tokens: slice) -> dict[str, Vectors]:
    """Name and (N, D) vectors of a block's tokens."""
    spec = source.spec
    names = [spec.tokens] if spec.positions == 1 else [f"mean of {spec.tokens}"]
    if spec.positions > 1 and spec.class_token_first:
        names.append("cls")
    vectors = {name: np.empty((len(keys), spec.width), np.float32) for name in names}
    for start in range(0, len(keys), READ_BATCH):
        part = slice(start, start + READ_BATCH)
        features: Features = source.read(keys[part])[:, tokens].astype(np.float32)
        for name, values in vectors.items():
            values[part] = features[:, 0] if name == "cls" else features.mean(axis=1)
    return vectors


def check_count(samples: int, neighbors: int) -> None:
    """Refuse fewer samples than neighbors can be found in.

    Raises:
        UsageError: gives both numbers.
    """
    if samples <= neighbors + 1:
        raise UsageError(
            f"{samples} samples with a text are in all stores, {neighbors} neighbors of each need "
            f"at least {neighbors + 2}: give a larger --samples, another --split, or fewer "
            "--neighbors"
        )
