"""Comparison of runs that answered the same questions."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from epalm.errors import DataError, UsageError
from epalm.evaluate.report.paper_results import OWN, published, published_results
from epalm.evaluate.report.tables import score_rows
from epalm.evaluate.scores.compare_runs import check_comparable, difference, randomization_p
from epalm.evaluate.scores.eval_results import Evaluation, Score
from epalm.metrics.intervals import bootstrap_interval
from epalm.tasks.task_registry import TASKS
from tests.evaluate.helpers import evaluation


def scored(run: str, *values: float) -> Evaluation:
    result = evaluation(run, answers=len(values))
    answered = tuple(
        replace(one, scores={"exact_match": value})
        for one, value in zip(result.predictions, values, strict=True)
    )
    return replace(result, predictions=answered)


def test_a_difference_is_paired_by_question_in_any_order() -> None:
    first, other = scored("a", 0, 1, 0, 1, 0, 0, 0, 1), scored("b", 1, 1, 0, 1, 1, 0, 1, 1)
    turned = replace(other, predictions=other.predictions[::-1])
    result = difference(turned, first)
    assert result is not None
    assert result.value == pytest.approx(3 / 8)
    pairs = np.array([1, 0, 0, 0, 1, 0, 1, 0], dtype=float)
    low, high = bootstrap_interval(pairs[::-1])
    assert (result.low, result.high) == (low, high)
    assert low >= 0  # unpaired, the interval would reach far below
    assert difference(first, first) is not None


def test_the_p_value_is_that_of_all_sign_flips() -> None:
    pairs = np.array([0.3, -0.1, 0.5, 0.2, 0.4, 0.1, -0.2, 0.6])
    sums = [abs(np.dot(signs, pairs)) for signs in itertools.product((-1, 1), repeat=len(pairs))]
    exact = np.mean([one >= pairs.sum() - 1e-9 for one in sums])
    assert randomization_p(pairs) == pytest.approx(exact, abs=0.02)
    assert randomization_p(np.zeros(9)) == 1.0


def test_equal_runs_do_not_differ() -> None:
    result = difference(scored("b", 0, 1, 1), scored("a", 0, 1, 1))
    assert result is not None
    assert (result.value, result.low, result.high, result.p) == (0.0, None, None, 1.0)


def marked(*evaluations: Evaluation) -> list[bool]:
    (row,) = [one for one in score_rows(evaluations) if one["name"] == "exact match"]
    return [cell["best"] for cell in row["cells"]]


def test_only_a_significant_lead_over_every_other_run_is_marked() -> None:
    low, high = mean_of("low", *[0.0] * 20, 1), mean_of("high", *[1.0] * 20, 0)
    near = mean_of("near", *[1.0] * 18, 0, 0, 0)
    assert marked(low, high) == [False, True]
    assert marked(high, low, low) == [True, False, False]
    assert marked(low, near, high) == [False, False, False]
    assert marked(high) == [False]
    assert marked(low, mean_of("few", 1, 1)) == [False, False]  # other questions


def mean_of(run: str, *values: float) -> Evaluation:
    mean = Score(float(np.mean(values)))
    return replace(scored(run, *values), scores={"exact_match": mean, "other": Score(0.5)})


def test_runs_with_other_questions_or_a_corpus_headline_have_no_difference() -> None:
    assert difference(scored("b", 0, 1, 1), scored("a", 0, 1)) is None
    corpus = replace(scored("a", 0, 1), headline="other")
    assert difference(replace(scored("b", 0, 1), headline="other"), corpus) is None


def test_other_tasks_are_not_comparable() -> None:
    with pytest.raises(UsageError, match=r"manifest val .*msvd-qa val"):
        check_comparable([evaluation(), replace(evaluation(), task="msvd-qa")])


def test_predictions_without_scores_are_not_comparable() -> None:
    with pytest.raises(DataError, match="full has no scores on val"):
        check_comparable([replace(evaluation(), scores={})])


def test_published_results_are_of_known_tasks_and_their_metrics() -> None:
    for task, results in published_results().items():
        captions = {"CIDEr", "BLEU-1", "BLEU-2", "BLEU-4", "METEOR", "SPICE", "SPIDEr"}
        assert task in TASKS
        known = captions if "caption" in task else {"accuracy", "released_accuracy"}
        assert {one.metric for one in results} <= known
        assert all(0 < one.value < 200 for one in results)
        assert len({(one.method, one.metric, one.on) for one in results}) == len(results)


def test_the_results_of_the_method_come_first_and_its_best_before_all() -> None:
    for results in published_results().values():
        own = [one for one in results if one.whose == OWN]
        assert results[: len(own)] == tuple(own)
        assert not own or own[0].value == max(
            one.value for one in own if one.metric == own[0].metric
        )
    assert [published(task)[0].value for task in ("vqa2", "gqa", "msvd-qa")] == [54.89, 42.91, 38.4]
