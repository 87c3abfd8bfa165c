"""From the encoder's numbers to the store's, without losing one silently."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from epalm.cache.layout import Tokens, Valid
from epalm.errors import StoreError


def cast_rows(tokens: Tokens, dtype: str, *, keys: Sequence[str], valid: Valid) -> Tokens:
    """Vectors in the dtype of a store, with NaN in the rows that are not valid.

    Args:
        tokens: (rows, ...) floating.
        dtype: "float16" or "float32".
        keys: of the rows, for the message.
        valid: (rows,) which rows hold vectors.

    Returns:
        (rows, ...), C-contiguous; `tokens` itself if nothing had to change.

    Raises:
        StoreError: a valid row has a value that is not finite, in `tokens` or after the cast.
    """
    with np.errstate(over="ignore"):
        stored: Tokens = np.ascontiguousarray(tokens, dtype=dtype)
    finite = _finite_rows(stored)
    if not finite[valid].all():
        row = int(np.flatnonzero(valid & ~finite)[0])
        limit = float(np.finfo(dtype).max)
        raise StoreError(
            f"{keys[row]} has a value of magnitude {np.abs(tokens[row]).max():g}, {dtype} holds "
            f"up to {limit:g}: extract with --dtype float32, or check the encoder's weights and "
            "--precision if it is not finite"
        )
    if not valid.all():
        stored = stored.copy() if stored is tokens else stored
        stored[~valid] = np.nan
    return stored


def _finite_rows(tokens: Tokens) -> NDArray[np.bool_]:
    """(rows,) whether all values of a row are finite."""
    finite: NDArray[np.bool_] = np.isfinite(tokens).reshape(len(tokens), -1)
    rows: NDArray[np.bool_] = np.logical_and.reduce(finite, axis=1)
    return rows
