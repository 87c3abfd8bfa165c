"""All caption metrics of the COCO toolkit, for evaluations."""

import logging
from collections.abc import Callable, Sequence

from epalm.errors import EpalmError, MissingToolError
from epalm.metrics.captions import java, meteor, spice
from epalm.metrics.captions.caption_metrics import Sentences, rouge_and_cider, tokenized
from epalm.metrics.metric_registry import Scores
from epalm.tasks.types import Example, Prediction

logger = logging.getLogger(__name__)


def score_caption_suite(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Metric "caption" for evaluations.

    Values: BLEU-1 to BLEU-4, ROUGE-L, METEOR and SPICE from 0 to 1, CIDEr from 0 to 10, the
    headline, and SPIDEr, the mean of CIDEr and SPICE. METEOR and SPICE are computed by Java
    programs with a time limit; if one cannot run, its score is left out with the reason.

    Raises:
        MissingToolError: Java does not work, and a sentence cannot be tokenized without it.
        DataError: predictions and examples do not match, or no reference contains a word.
    """
    from epalm.metrics.captions.bleu import score_bleu

    references, hypotheses = tokenized(predictions, examples)
    parts = [score_bleu(references, hypotheses), rouge_and_cider(references, hypotheses)]
    left_out: dict[str, str] = {}
    for name, score in (("METEOR", meteor.score_meteor), ("SPICE", spice.score_spice)):
        part = _attempt(name, score, references, hypotheses)
        if isinstance(part, Scores):
            parts.append(part)
        else:
            left_out[name] = part
    scores = _merged(parts, left_out)
    return scores if "SPICE" in left_out else _with_spider(scores)


def require_tools() -> None:
    """Log which scores will be left out, and why."""
    try:
        java.find_java()
    except MissingToolError:
        logger.warning("captions are tokenized without Java, which only works for simple sentences")
    for name, check in (("METEOR", java.find_java), ("SPICE", spice.check_spice)):
        try:
            check()
        except MissingToolError as error:
            logger.warning("%s is left out: %s", name, error)


def _attempt(
    name: str,
    score: Callable[[Sentences, Sentences], Scores],
    references: Sentences,
    hypotheses: Sentences,
) -> Scores | str:
    """The scores, or the reason why there are none."""
    try:
        return score(references, hypotheses)
    except MissingToolError as error:  # `require_tools` has logged it
        return str(error)
    except EpalmError as error:
        logger.warning("%s is left out: %s", name, error)
        return str(error)


def _merged(parts: Sequence[Scores], left_out: dict[str, str]) -> Scores:
    return Scores(
        values={name: value for part in parts for name, value in part.values.items()},
        per_example={name: each for part in parts for name, each in part.per_example.items()},
        headline="CIDEr",
        intervals={name: ends for part in parts for name, ends in part.intervals.items()},
        left_out=left_out,
    )


def _with_spider(scores: Scores) -> Scores:
    """The scores with SPIDEr (Liu et al. 2017)."""
    per_example = (scores.per_example["CIDEr"] + scores.per_example["SPICE"]) / 2
    value = (scores.values["CIDEr"] + scores.values["SPICE"]) / 2
    return Scores(
        values=scores.values | {"SPIDEr": value},
        per_example=scores.per_example | {"SPIDEr": per_example},
        headline=scores.headline,
        intervals=scores.intervals,
        left_out=scores.left_out,
    )
