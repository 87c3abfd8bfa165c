"""Metrics of plain texts, from texts to numbers: `epalm.metrics.cider` and others.

Values are fractions as everywhere in this package: multiply by 100 for the numbers of papers.
"""

from collections.abc import Sequence

from epalm.errors import DataError
from epalm.metrics.metric_registry import Metric, Scores, load_final_metric, load_metric
from epalm.tasks.types import Example, Prediction

Predictions = Sequence[str]
References = Sequence[Sequence[str]]


def vqa_accuracy(predictions: Predictions, answers: References) -> float:
    """Official VQA accuracy, the mean over the questions, 0 to 1.

    >>> round(vqa_accuracy(["two"], [["2", "2", "2", "three", "2", "2", "2", "2", "2", "2"]]), 3)
    1.0

    Args:
        predictions: one text for each question.
        answers: the answers of at least four people to each question; VQA has ten.
    """
    return _score("vqa", predictions, answers).values["accuracy"]


def exact_match(predictions: Predictions, references: References) -> float:
    """Share of predictions that equal a reference, apart from white space around them.

    >>> exact_match(["lamp", "cup"], [["lamp"], ["mug", "a cup"]])
    0.5
    """
    return _score("exact", predictions, references).values["exact_match"]


def cider(predictions: Predictions, references: References) -> float:
    """CIDEr of captions, 0 to 10; 0 for a single caption, since words are weighted by rarity.

    >>> captions = ["a dog runs", "a red car"]
    >>> cider(captions, [["a dog runs"], ["a red car"]]) > 1
    True
    """
    return _score("caption", predictions, references).values["CIDEr"]


def bleu(predictions: Predictions, references: References, order: int = 4) -> float:
    """Corpus BLEU of captions up to n-grams of this order, 1 to 4.

    >>> round(bleu(["a dog runs on grass"], [["a dog runs on grass"]]), 3)
    1.0
    """
    if order not in range(1, 5):
        raise DataError(f"order is {order}, expected 1 to 4")
    return _score("caption", predictions, references).values[f"BLEU-{order}"]


def rouge_l(predictions: Predictions, references: References) -> float:
    """ROUGE-L of captions, the mean over the captions, 0 to 1.

    >>> round(rouge_l(["a dog runs"], [["a dog runs"]]), 3)
    1.0
    """
    return _score("caption", predictions, references).values["ROUGE-L"]


def caption_scores(predictions: Predictions, references: References) -> dict[str, float]:
    """All caption metrics: BLEU, METEOR, ROUGE-L, CIDEr and SPICE; those without Java if needed.

    METEOR and SPICE run Java programs; without Java they are left out.
    """
    metric = load_final_metric("caption")
    return dict(_scores(metric, predictions, references).values)


def _score(name: str, predictions: Predictions, references: References) -> Scores:
    return _scores(load_metric(name), predictions, references)


def _scores(metric: Metric, predictions: Predictions, references: References) -> Scores:
    if isinstance(predictions, str) or any(isinstance(one, str) for one in references):
        raise DataError(
            "expected a list of predictions, and a list of references for each of them, found a "
            "text in place of a list"
        )
    if len(predictions) != len(references):
        raise DataError(
            f"found {len(predictions)} predictions and {len(references)} lists of references, "
            "expected as many"
        )
    ids = [str(number) for number in range(len(predictions))]
    examples = [
        Example(name, name, "", tuple(texts), tuple(texts))
        for name, texts in zip(ids, references, strict=True)
    ]
    answers = [Prediction(name, name, text) for name, text in zip(ids, predictions, strict=True)]
    return metric(answers, examples)
