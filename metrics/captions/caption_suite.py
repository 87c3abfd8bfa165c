"""All caption metrics of the COCO toolkit, as an evaluation reports them."""

import logging
from collections.abc import Callable, Sequence

from epalm.errors import EpalmError, MissingToolError
from epalm.metrics.captions import java, meteor, spice
from epalm.metrics.captions.caption_metrics import Sentences, rouge_and_cider, tokenised
from epalm.metrics.metric_registry import Scores
from epalm.tasks.types import Example, Prediction

logger = logging.getLogger(__name__)


def score_caption_suite(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """The metric "caption", as evaluations report it.

    Values: BLEU-1 to BLEU-4, ROUGE-L, METEOR and SPICE from 0 to 1, CIDEr from 0 to 10, the
    headline, and SPIDEr, half the sum of CIDEr and SPICE. METEOR and SPICE are computed by Java
    programs in bounded time; where they cannot run, they are left out and the scores say why.

    Raises:
        MissingToolError: there is no working Java, and a sentence is not plain.
        DataError: predictions and examples do not match, or no reference contains a word.
    """
    from epalm.metrics.captions.bleu import score_bleu

    references, hypotheses = tokenised(predictions, examples)
    parts = [score_bleu(references, hypotheses), rouge_and_cider(references, hypotheses)]
    left_out: dict[str, str] = {}
    for name, score in (("METEOR", meteor.score_meteor), ("SPICE", spice.score_spice)):
        part = _attempt(name, score, references, hypotheses)
        if isinstance(part, Scores):
            parts.append(part)
        else:
            left_out[name] = part
    found = _joined(parts, left_out)
    return found if "SPICE" in left_out else _with_spider(found)


def require_tools() -> None:
    """Say what will be left out, and why."""
    try:
        java.find_java()
    except MissingToolError:
        logger.warning("captions are tokenised without Java: those that are not plain are refused")
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
    """The scores, or why there are none."""
    try:
        return score(references, hypotheses)
    except MissingToolError as error:  # said by `require_tools` before
        return str(error)
    except EpalmError as error:
        logger.warning("%s is left out: %s", name, error)
        return str(error)


def _joined(parts: Sequence[Scores], left_out: dict[str, str]) -> Scores:
    return Scores(
        values={name: value for part in parts for name, value in part.values.items()},
        per_example={name: each for part in parts for name, each in part.per_example.items()},
        headline="CIDEr",
        intervals={name: ends for part in parts for name, ends in part.intervals.items()},
        left_out=left_out,
    )


def _with_spider(scores: Scores) -> Scores:
    """The scores and SPIDEr (Liu et al. 2017)."""
    each = (scores.per_example["CIDEr"] + scores.per_example["SPICE"]) / 2
    value = (scores.values["CIDEr"] + scores.values["SPICE"]) / 2
    return Scores(
        values=scores.values | {"SPIDEr": value},
        per_example=scores.per_example | {"SPIDEr": each},
        headline=scores.headline,
        intervals=scores.intervals,
        left_out=scores.left_out,
    )
