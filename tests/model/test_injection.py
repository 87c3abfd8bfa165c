import pytest

from epalm.errors import UsageError
from epalm.model.injection import default_span, parse_span, plan_injection

N = None
PUBLISHED = {  # section 1.2 of the method's description: (layers, first, stop, cached) -> source
    (32, 19, 31, 6): [N] * 19 + [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [N],
    (24, 11, 23, 6): [N] * 11 + [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [N],
    (12, 5, 11, 6): [N] * 5 + [0, 1, 2, 3, 4, 5] + [N],
    (40, 27, 39, 6): [N] * 27 + [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [N],
    (32, 19, 31, 1): [N] * 19 + [0] * 12 + [N],
    (32, 0, 32, 6): [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5 + [4] * 5 + [5] * 7,
    (32, 0, 1, 1): [0] + [N] * 31,
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_each_layer_receives_the_published_vector(case: tuple[int, int, int, int]) -> None:
    layers, first, stop, cached = case
    plan = plan_injection(layers, cached, first=first, stop=stop)
    assert list(plan.source) == PUBLISHED[case]
    assert (plan.first, plan.stop) == (first, stop)


@pytest.mark.parametrize(
    ("layers", "span"),
    [(12, (5, 11)), (14, (1, 13)), (24, (11, 23)), (32, (19, 31)), (40, (27, 39))],
)
def test_the_default_span_is_the_published_one(layers: int, span: tuple[int, int]) -> None:
    assert default_span(layers, 6) == span


def test_a_span_outside_the_model_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"19:31 does not fit 12 OPT layers"):
        plan_injection(12, 6, first=19, stop=31)


def test_a_span_is_read_from_text() -> None:
    assert parse_span("19:31", 32, 6) == (19, 31)
    assert parse_span("19:end", 32, 6) == (19, 32)
    with pytest.raises(UsageError, match="inject is 'last'"):
        parse_span("last", 32, 6)


def test_a_plan_prints_itself_as_a_table() -> None:
    table = str(plan_injection(6, 2, first=1, stop=5))
    assert table.splitlines() == [
        "OPT layers 6, tail causal",
        "         0  no visual row",
        "      1..2  cached vector 0",
        "      3..4  cached vector 1",
        "         5  visual row carried over",
    ]
