"""Mutual k-nearest neighbors: how alike two representations of the same samples are.

Huh, Cheung, Wang & Isola, "The Platonic Representation Hypothesis" (ICML 2024), section 2: the mean
overlap of each sample's k nearest neighbors in both representations, with k = 10 and vectors of
length 1. Their code also clips outliers, which is not done here.
"""

import numpy as np
from numpy.typing import NDArray

ROW_CHUNK = 256
"""Samples whose similarities to all others are in memory at one time."""

Vectors = NDArray[np.floating]
"""(N, D) representations of N samples."""


def nearest_neighbors(vectors: Vectors, count: int) -> NDArray[np.intp]:
    """(N, count) indices of the most similar other samples by cosine, in no particular order.

    Args:
        vectors: (N, D), any floating dtype; computed in float32.
        count: number of neighbors k, less than N.
    """
    unit = vectors.astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    neighbors = np.empty((len(unit), count), np.intp)
    for start in range(0, len(unit), ROW_CHUNK):
        similarity = unit[start : start + ROW_CHUNK] @ unit.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        neighbors[start : start + ROW_CHUNK] = nearest
    return neighbors


def overlap(first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float64]:
    """(N,) fraction of each sample's neighbors that both representations share.

    Args:
        first: (N, k) different indices in each row.
        second: (N, k).
    """
    shared: NDArray[np.float64] = np.empty(len(first))
    for start in range(0, len(first), ROW_CHUNK):
        part = slice(start, start + ROW_CHUNK)
        shared[part] = (first[part, :, None] == second[part, None, :]).sum(axis=(1, 2))
    shared /= first.shape[1]
    return shared


def chance(samples: int, count: int) -> float:
    """The expected overlap of unrelated representations of N samples: k / (N - 1)."""
    return count / (samples - 1)
