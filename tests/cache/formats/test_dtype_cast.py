import numpy as np
import pytest

from epalm.cache.formats.dtype_cast import cast_features
from epalm.errors import StoreError

KEYS = ["a", "b", "c"]
ALL = np.ones(3, np.bool_)


def features_with(value: float, dtype: str) -> np.ndarray:
    values = np.full((3, 1, 2, 5), -1.5, dtype=dtype)
    values[1, 0, 1, 3] = value
    return values


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
def test_a_value_that_is_not_finite_is_refused_with_its_key(dtype: str, value: float) -> None:
    with pytest.raises(StoreError, match=r"b has a value of magnitude (inf|nan)"):
        cast_features(features_with(value, dtype), dtype, keys=KEYS, valid=ALL)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_finite_value_is_kept(dtype: str) -> None:
    limits = np.finfo(dtype)
    for value in (limits.max, limits.min, limits.tiny, -limits.smallest_subnormal, 0.0, -0.0):
        values = features_with(float(value), dtype)
        assert cast_features(values, dtype, keys=KEYS, valid=ALL) is values


@pytest.mark.parametrize("value", [65520.0, -65520.0, 1e30])
def test_a_value_that_float16_rounds_to_infinity_is_refused(value: float) -> None:
    with pytest.raises(StoreError, match="maximum of float16 is 65504"):
        cast_features(features_with(value, "float32"), "float16", keys=KEYS, valid=ALL)
    assert (
        cast_features(features_with(65519.0, "float32"), "float16", keys=KEYS, valid=ALL).max()
        == 65504
    )


def test_rows_that_are_not_valid_become_nan() -> None:
    values = features_with(np.inf, "float32")
    stored = cast_features(values, "float32", keys=KEYS, valid=np.array([True, False, True]))
    assert np.isnan(stored[1]).all()
    assert np.array_equal(stored[::2], values[::2])
    assert np.isinf(values[1, 0, 1, 3])


def test_rows_that_are_nan_already_need_no_copy() -> None:
    values, valid = features_with(1.0, "float16"), np.array([True, False, True])
    values[1] = np.nan
    assert cast_features(values, "float16", keys=KEYS, valid=valid) is values
    values[1] = -values[1]  # another NaN, which would give other bytes
    stored = cast_features(values, "float16", keys=KEYS, valid=valid)
    blank = np.full_like(stored[1], np.nan)
    assert stored[1].tobytes() == blank.tobytes() != values[1].tobytes()
