"""The weighted mean of the trained tensors of several runs."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor


def mean_tensors(
    sources: Iterable[Mapping[str, Tensor]], weights: Sequence[float]
) -> dict[str, Tensor]:
    """The mean of each tensor, computed in float64, in the dtype of the first source.

    Args:
        sources: tensors by name, the same names and shapes in each; one source is used at a time.
        weights: weight of each source, divided by their sum.
    """
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for tensors, weight in zip(sources, weights, strict=True):
        for name, tensor in tensors.items():
            part = weight * tensor.detach().double()
            sums[name] = sums[name] + part if name in sums else part
            dtypes.setdefault(name, tensor.dtype)
    return {name: (total / sum(weights)).to(dtypes[name]) for name, total in sums.items()}
