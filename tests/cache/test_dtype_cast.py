import numpy as np
import pytest

from epalm.cache.dtype_cast import cast_features
from epalm.errors import StoreError

KEYS = ["a", "b", "c"]
ALL = np.ones(3, np.bool_)


def rows(value: float, dtype: str) -> np.ndarray:
    values = np.full((3, 1, 2, 5), -1.5, dtype=dtype)
    values[1, 0, 1, 3] = value
    return values


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
def test_what_is_not_finite_is_refused_and_named(dtype: str, value: float) -> None:
    with pytest.raises(StoreError, match=r"b has a value of magnitude (inf|nan)"):
        cast_features(rows(value, dtype), dtype, keys=KEYS, valid=ALL)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_finite_value_is_kept(dtype: str) -> None:
    limits = np.finfo(dtype)
    for value in (limits.max, limits.min, limits.tiny, -limits.smallest_subnormal, 0.0, -0.0):
        values = rows(float(value), dtype)
        assert cast_features(values, dtype, keys=KEYS, valid=ALL) is values


@pytest.mark.parametrize("value", [65520.0, -65520.0, 1e30])
def test_what_float16_rounds_to_infinity_is_refused(value: float) -> None:
    with pytest.raises(StoreError, match="maximum of float16 is 65504"):
        cast_features(rows(value, "float32"), "float16", keys=KEYS, valid=ALL)
    assert cast_features(rows(65519.0, "float32"), "float16", keys=KEYS, valid=ALL).max() == 65504


def test_rows_that_are_not_valid_become_nan_whatever_they_hold() -> None:
    values = rows(np.inf, "float32")
    found = cast_features(values, "float32", keys=KEYS, valid=np.array([True, False, True]))
    assert np.isnan(found[1]).all()
    assert np.array_equal(found[::2], values[::2])
    assert np.isinf(values[1, 0, 1, 3])
