"""Injection plans against the published ones."""

from dataclasses import replace

import pytest

from epalm.errors import UsageError
from epalm.model.method.injection import Tail, default_span, parse_span, plan_injection

N = None
PUBLISHED = {  # section 1.2 of the method's description: (layers, first, stop, cached) -> plan
    (32, 19, 31, 6): [N] * 19 + [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [N],
    (24, 11, 23, 6): [N] * 11 + [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [N],
    (12, 5, 11, 6): [N] * 5 + [0, 1, 2, 3, 4, 5] + [N],
    (40, 27, 39, 6): [N] * 27 + [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [N],
    (32, 19, 31, 1): [N] * 19 + [0] * 12 + [N],
    (32, 0, 32, 6): [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5 + [4] * 5 + [5] * 7,
    (32, 0, 1, 1): [0] + [N] * 31,
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_each_layer_receives_the_published_feature(case: tuple[int, int, int, int]) -> None:
    layers, first, stop, cached = case
    plan = plan_injection(layers, cached, first=first, stop=stop)
    assert list(plan.feature_of_layer) == PUBLISHED[case]
    assert (plan.first, plan.stop) == (first, stop)


@pytest.mark.parametrize(
    ("layers", "span"),
    [(12, (5, 11)), (14, (1, 13)), (24, (11, 23)), (32, (19, 31)), (40, (27, 39))],
)
def test_the_default_span_is_the_published_one(layers: int, span: tuple[int, int]) -> None:
    assert default_span(layers, 6) == span


@pytest.mark.parametrize("cached", [1, 3, 6, 12])
def test_the_default_span_fits_any_depth_and_injects_every_feature(cached: int) -> None:
    for layers in range(1, 130):
        first, stop = default_span(layers, cached)
        plan = plan_injection(layers, cached, first=first, stop=stop)
        injected = set(plan.feature_of_layer) - {None}
        assert injected == set(range(min(cached, max(layers - 1, 1))))
        assert plan.stop == max(layers - 1, 1)


PUBLISHED_BY_TWO = {  # the same section's column for text_step 2
    (32, 19, 31, 6): [N] * 20 + [0, N, 1, N, 2, N, 3, N, 4, N, 5, N],
    (24, 11, 23, 6): [N] * 12 + [0, N, 1, N, 2, N, 3, N, 4, N, 5, N],
    (12, 5, 11, 6): [N] * 6 + [1, N, 3, N, 5, N],  # by its rule, not in its table
    (32, 19, 31, 1): [N] * 20 + [0, N] * 6,
    (32, 0, 32, 6): [
        *(0, N, 0, N, 0, N, 1, N, 1, N, 2, N, 2, N, 2, N),
        *(3, N, 3, N, 4, N, 4, N, 4, N, 5, N, 5, N, 5, N),
    ],
    (32, 0, 1, 1): [0] + [N] * 31,
}


@pytest.mark.parametrize("case", PUBLISHED_BY_TWO)
def test_with_text_step_two_every_second_layer_receives_the_published_feature(
    case: tuple[int, int, int, int],
) -> None:
    layers, first, stop, cached = case
    plan = plan_injection(layers, cached, first=first, stop=stop, text_step=2)
    assert list(plan.feature_of_layer) == PUBLISHED_BY_TWO[case]


def test_a_span_without_a_multiple_of_text_step_is_rejected() -> None:
    with pytest.raises(UsageError, match="19:20 has no layer that is a multiple of text_step 2"):
        plan_injection(32, 1, first=19, stop=20, text_step=2)


def test_only_the_official_tail_leaks_and_only_into_a_layer_without_its_own_feature() -> None:
    def leaks(tail: Tail, stop: int, text_step: int = 1) -> bool:
        plan = plan_injection(9, 2, first=1, stop=stop, tail=tail, text_step=text_step)
        return plan.visual_sees_all

    assert leaks("official", 8)
    assert not leaks("official", 9)
    assert leaks("official", 9, text_step=2)
    assert not leaks("causal", 8)
    assert not leaks("drop", 8)


def test_the_tail_to_end_leaves_no_layer_after_the_span() -> None:
    plan = plan_injection(7, 2, first=1, stop=3, tail="to-end")
    assert plan.feature_of_layer == (None, 0, 0, 0, 1, 1, 1)
    assert plan == replace(plan_injection(7, 2, first=1, stop=7), tail="to-end")
    assert not plan.visual_sees_all


def test_a_span_outside_the_model_is_rejected_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"19:31 does not fit 12 decoder layers"):
        plan_injection(12, 6, first=19, stop=31)


def test_a_span_is_parsed_from_text() -> None:
    assert parse_span("19:31", 32, 6) == (19, 31)
    assert parse_span("19:end", 32, 6) == (19, 32)
    with pytest.raises(UsageError, match="inject is 'last'"):
        parse_span("last", 32, 6)


def test_a_plan_prints_itself_as_a_table() -> None:
    table = str(plan_injection(6, 2, first=1, stop=5))
    assert table.splitlines() == [
        "decoder layers 6, tail causal",
        "         0  no visual token",
        "      1..2  visual token from feature 0",
        "      3..4  visual token from feature 1",
        "         5  visual token from the previous layer",
    ]
