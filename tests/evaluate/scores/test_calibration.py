"""Calibration of confidences."""

from dataclasses import replace

import pytest

from epalm.evaluate.scores.calibration import calibrate, calibration_of
from tests.evaluate.helpers import evaluation


def test_the_error_is_the_mean_distance_weighted_by_answers() -> None:
    result = calibration_of([0.05, 0.15, 0.15, 0.15, 1.0], [0.0, 1.0, 0.0, 0.5, 1.0])
    assert [(one.count, one.confidence, one.score) for one in result.bins] == [
        (1, pytest.approx(0.05), 0.0),
        (3, pytest.approx(0.15), 0.5),
        (1, 1.0, 1.0),
    ]
    assert result.error == pytest.approx((0.05 + 3 * 0.35 + 0) / 5)


def test_a_perfectly_calibrated_model_has_no_error() -> None:
    assert calibration_of([0.75] * 4, [1.0, 1.0, 1.0, 0.0]).error == pytest.approx(0)


def test_an_evaluation_is_calibrated_by_the_probability_of_its_answers() -> None:
    result = calibrate(evaluation())
    assert result is not None
    (only,) = result.bins
    assert (only.count, only.score) == (6, 0.5)
    assert only.confidence == pytest.approx(0.6065, abs=1e-4)  # exp(-0.5)


def test_captions_and_unknown_probabilities_have_no_calibration() -> None:
    result = evaluation()
    assert calibrate(replace(result, kind="caption")) is None
    last = replace(result.predictions[-1], log_probability=None)
    assert calibrate(replace(result, predictions=(*result.predictions[:-1], last))) is None
