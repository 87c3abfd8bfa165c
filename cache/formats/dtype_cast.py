"""Cast features to the dtype of a store, and refuse values that it cannot represent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Features, Valid
from epalm.errors import StoreError


def cast_features(features: Features, dtype: str, *, keys: Sequence[str], valid: Valid) -> Features:
    """Features in the dtype of a store, with NaN in the rows that are not valid.

    Args:
        features: (rows, ...), a floating-point dtype.
        dtype: "float16" or "float32".
        keys: the key of every row, for the error message.
        valid: (rows,), False for samples that could not be encoded.

    Returns:
        (rows, ...), C-contiguous; `features` itself if nothing has to change.

    Raises:
        StoreError: a value in a valid row is not finite, before or after the cast.
    """
    with np.errstate(over="ignore"):
        stored: Features = np.ascontiguousarray(features, dtype=dtype)
    finite = _finite_rows(stored)
    if not finite[valid].all():
        row = int(np.flatnonzero(valid & ~finite)[0])
        limit = float(np.finfo(dtype).max)
        raise StoreError(
            f"{keys[row]} has a value of magnitude {np.abs(features[row]).max():g}, the maximum of "
            f"{dtype} is {limit:g}: extract with --dtype float32, or check the encoder's weights "
            "and --precision if the value is not finite"
        )
    if not _is_blank(stored[~valid]):
        stored = stored.copy() if stored is features else stored
        stored[~valid] = np.nan
    return stored


def _is_blank(features: Features) -> bool:
    """Whether all values are the NaN that failed samples have, bit by bit."""
    bits = f"u{features.itemsize}"
    return bool((features.view(bits) == np.array(np.nan, features.dtype).view(bits)).all())


def _finite_rows(features: Features) -> NDArray[np.bool_]:
    """(rows,) whether all values of a row are finite.

    As integers, the bits of IEEE 754 numbers are ordered by magnitude, with infinities and NaN
    last. The largest signed integer therefore shows whether all positive numbers are finite, the
    largest unsigned integer whether all negative ones are. For float16 this takes an eighth of the
    time of `numpy.isfinite`.
    """
    signed = features.reshape(len(features), -1).view(f"i{features.itemsize}")
    unsigned = signed.view(f"u{features.itemsize}")
    bounds = np.array([np.inf, -np.inf], features.dtype).view(unsigned.dtype)
    positive: NDArray[np.bool_] = signed.max(axis=1) < bounds[0]
    negative: NDArray[np.bool_] = unsigned.max(axis=1) < bounds[1]
    return positive & negative
