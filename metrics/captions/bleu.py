"""BLEU of the COCO toolkit, with bootstrap intervals."""

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from epalm.metrics.captions.caption_metrics import Sentences
from epalm.metrics.intervals import bootstrap_intervals
from epalm.metrics.metric_registry import Scores, Values

ORDERS = 4

_TINY, _SMALL = 1e-15, 1e-9
"""Constants that the toolkit adds to numerators and denominators (bleu_scorer.py)."""


def score_bleu(references: Sentences, hypotheses: Sentences) -> Scores:
    """BLEU-1 to BLEU-4 of tokenized captions.

    The values are corpus BLEU, with the length of the closest reference. The scores per example are
    the toolkit's BLEU of single captions; corpus BLEU is not their mean.
    """
    scorer = BleuScorer(n=ORDERS)
    for row, (hypothesis,) in hypotheses.items():
        scorer += (hypothesis, references[row])
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
        sums: (R, 10) sums over each set: matching n-grams for n from 1 to 4, all n-grams for n from
            1 to 4, words, and words of the references that are closest in length.

    Returns:
        (R, 4) scores.
    """
    matches, totals = sums[:, :ORDERS], sums[:, ORDERS:-2]
    words, reference_words = sums[:, -2], sums[:, -1]
    precisions = (matches + _TINY) / (totals + _SMALL)
    roots = 1 / np.arange(1, ORDERS + 1)
    ratios = (words + _TINY) / (reference_words + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratios))
    scores: Values = np.cumprod(precisions, axis=1) ** roots * brevity[:, None]
    return scores


def _statistics(scorer: BleuScorer) -> Values:
    """(N, 10) statistics per example; `bleu_of_sums` takes their sums."""
    return np.array(
        [
            [
                *example["correct"],
                *example["guess"],
                example["testlen"],
                _closest(example["reflen"], example["testlen"]),
            ]
            for example in scorer.ctest
        ],
        dtype=np.float64,
    )


def _closest(lengths: list[int], target: int) -> int:
    return min(lengths, key=lambda length: (abs(length - target), length))
