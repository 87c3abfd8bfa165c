"""BLEU of sums, worked by hand."""

from math import exp, sqrt

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from epalm.errors import DataError
from epalm.metrics import bleu
from epalm.metrics.captions.bleu import bleu_of_sums, score_bleu


def test_a_short_caption_is_punished_and_a_long_one_is_not() -> None:
    # "a dog" for "a dog runs fast", and the reverse
    short = [2, 1, 0, 0, 2, 1, 0, 0, 2, 4]
    long = [2, 1, 0, 0, 4, 3, 2, 1, 4, 2]
    scores = bleu_of_sums(np.array([short, long], dtype=np.float64))
    assert scores[0, :2] == pytest.approx([exp(-1), exp(-1)], rel=1e-6)
    assert scores[1, :2] == pytest.approx([0.5, sqrt(0.5 / 3)], rel=1e-6)
    assert (scores[:, 2:] < 0.01).all()  # no trigram matches; the toolkit adds a little to zero


@pytest.mark.parametrize(
    ("caption", "sums"),
    [
        ("a dog", [2, 1, 0, 0, 2, 1, 0, 0, 2, 3]),
        ("a dog runs", [3, 2, 1, 0, 3, 2, 1, 0, 3, 3]),
        ("a dog runs fast away", [3, 2, 1, 0, 5, 4, 3, 2, 5, 3]),
        ("cat", [0, 0, 0, 0, 1, 0, 0, 0, 1, 3]),
        ("", [0, 0, 0, 0, 0, 0, 0, 0, 0, 3]),
    ],
)
def test_the_constants_that_avoid_divisions_by_zero_are_those_of_the_toolkit(
    caption: str, sums: list[int]
) -> None:
    official, _ = Bleu(4).compute_score({0: ["a dog runs"]}, {0: [caption]}, verbose=0)
    actual = bleu_of_sums(np.array([sums], dtype=np.float64))
    assert actual[0].tolist() == pytest.approx(official, rel=1e-13, abs=0)


def test_the_interval_of_a_single_caption_is_its_score(capfd: pytest.CaptureFixture[str]) -> None:
    # six words: the reference of seven is closer than that of two
    references = {0: ["a dog", "a dog runs on the grass today"]}
    scores = score_bleu(references, {0: ["a dog runs on grass today"]})
    assert scores.values["BLEU-1"] == pytest.approx(exp(1 - 7 / 6), rel=1e-6)
    for name, (low, high) in scores.intervals.items():
        assert low == high == pytest.approx(scores.values[name])
    assert scores.headline == "BLEU-4"
    assert capfd.readouterr() == ("", "")


def test_the_order_is_that_which_is_asked_for() -> None:
    captions, references = ["a dog sits"], [["a dog runs"]]
    assert bleu(captions, references, order=1) == pytest.approx(2 / 3, rel=1e-6)
    assert bleu(captions, references, order=2) == pytest.approx(sqrt(2 / 3 / 2), rel=1e-6)
    for order in (0, 5):
        with pytest.raises(DataError, match=f"order is {order}, expected 1 to 4"):
            bleu(captions, references, order=order)
