"""BLEU of the COCO toolkit with what it does not give: intervals."""

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from epalm.metrics.captions.caption_metrics import Sentences
from epalm.metrics.intervals import bootstrap_intervals
from epalm.metrics.metric_registry import Scores, Values

ORDERS = 4

_TINY, _SMALL = 1e-15, 1e-9
"""Added to numerators and denominators by the toolkit (bleu_scorer.py)."""


def score_bleu(references: Sentences, hypotheses: Sentences) -> Scores:
    """BLEU-1 to BLEU-4 of tokenised captions.

    The values count n-grams over the whole set, against the reference whose length is closest.
    Per example stands the toolkit's BLEU of that caption alone, whose mean is another number.
    """
    scorer = BleuScorer(n=ORDERS)
    for row, (said,) in hypotheses.items():
        scorer += (said, references[row])
    corpus, each = scorer.compute_score(option="closest", verbose=0)
    names = [f"BLEU-{order}" for order in range(1, ORDERS + 1)]
    intervals = bootstrap_intervals(_statistics(scorer), bleu_of_sums)
    return Scores(
        values=dict(zip(names, map(float, corpus), strict=True)),
        per_example={
            name: np.asarray(column, dtype=np.float64)
            for name, column in zip(names, each, strict=True)
        },
        headline=names[-1],
        intervals=dict(zip(names, intervals, strict=True)),
    )


def bleu_of_sums(sums: Values) -> Values:
    """BLEU-1 to BLEU-4 of sets of captions.

    Args:
        sums: (R, 10) over each set: right n-grams for n from 1 to 4, n-grams likewise, words, and
            words of the references that are closest in length.

    Returns:
        (R, 4).
    """
    right, all_, words, wanted = sums[:, :ORDERS], sums[:, ORDERS:-2], sums[:, -2], sums[:, -1]
    precisions = (right + _TINY) / (all_ + _SMALL)
    roots = 1 / np.arange(1, ORDERS + 1)
    ratios = (words + _TINY) / (wanted + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratios))
    scores: Values = np.cumprod(precisions, axis=1) ** roots * brevity[:, None]
    return scores


def _statistics(scorer: BleuScorer) -> Values:
    """(N, 10), what `bleu_of_sums` takes the sums of."""
    return np.array(
        [
            [
                *one["correct"],
                *one["guess"],
                one["testlen"],
                _closest(one["reflen"], one["testlen"]),
            ]
            for one in scorer.ctest
        ],
        dtype=np.float64,
    )


def _closest(lengths: list[int], wanted: int) -> int:
    return min(lengths, key=lambda length: (abs(length - wanted), length))
