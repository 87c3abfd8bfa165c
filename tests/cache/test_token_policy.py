"""Token policies as text, and what a spec says of the stored tokens."""

from dataclasses import replace

import pytest

from epalm.cache.spec import StoreSpec
from epalm.cache.token_policy import AUTO, TokenPolicy, check_tokens, is_policy, parse_tokens
from epalm.errors import UsageError

SPEC = StoreSpec("d", "e", {"token": "cls"}, layers=(0,), width=4, count=1)


@pytest.mark.parametrize(
    "text", ["cls", "mean", "map", "all", "pool:2x3", "pool:8x1x1", "pool:1024x1"]
)
def test_the_text_of_a_policy_is_what_it_was_parsed_from(text: str) -> None:
    assert str(parse_tokens(text)) == text
    assert is_policy(text)
    check_tokens(text)


def test_a_grid_is_read_from_its_numbers() -> None:
    assert parse_tokens("pool:4x12") == TokenPolicy("pool", (4, 12))
    assert not parse_tokens("pool:1x1").single
    assert parse_tokens("mean").single


@pytest.mark.parametrize(
    "text", ["", "pool", "pool:3", "pool:0x1", "pool:1025x1", "pool:2x3x4x5", "CLS", "p" * 99]
)
def test_other_texts_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected cls, mean, map, all, pool:ROWSxCOLUMNS"):
        check_tokens(text)


def test_auto_is_a_value_of_the_option_but_no_policy_of_a_store() -> None:
    check_tokens(AUTO)
    assert not is_policy(AUTO)


def test_a_spec_tells_its_policy_and_whether_the_class_token_comes_first() -> None:
    every = replace(SPEC, positions=5, fingerprint={"token": "all"})
    no_class = replace(every, fingerprint={"token": "all", "class_token": "none"})
    mean = replace(SPEC, fingerprint={"token": "mean"})
    assert [one.tokens for one in (SPEC, every, no_class, mean)] == ["cls", "all", "all", "mean"]
    first = [one.class_token_first for one in (SPEC, every, no_class, mean)]
    assert first == [True, True, False, False]


def test_a_spec_without_a_known_policy_has_cls_or_all_tokens() -> None:
    own = replace(SPEC, fingerprint={"token": "something of the user's"})
    assert own.tokens == "cls"
    assert replace(own, positions=3, fingerprint={}).tokens == "all"
