"""Settings of a run in the words of the report."""

import pytest

from epalm.evaluate.preparation.settings_summary import _injection
from epalm.model.method.variants import VARIANTS
from tests.model.helpers import settings


@pytest.mark.parametrize(
    ("variant", "tokens", "policy", "expected"),
    [
        ("full", (1, 1), "cls", "[CLS] tokens of 2 blocks"),
        ("full", (197, 1), "all", "[CLS] tokens of 2 blocks"),
        ("full", (1, 1), "mean", "mean tokens of 2 blocks"),
        ("limber", (1, 1), "map", "attention-pooled token of the last block"),
        ("full", (4, 4), "pool:2x2", "4 tokens (pool:2x2) of each of 2 blocks"),
        ("limber", (4, 4), "pool:2x2", "4 tokens (pool:2x2) of the last block"),
        ("magma-all-tokens", (197, 197), "all", "all 197 tokens of the last block"),
    ],
)
def test_the_injected_tokens_are_described(
    variant: str, tokens: tuple[int, int], policy: str, expected: str
) -> None:
    positions, injected = tokens
    model = settings(variant, positions=positions, injected_tokens=injected)
    assert _injection(model, policy).startswith(f"{expected} ")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_injection_of_every_variant_is_described(variant: str) -> None:
    words = _injection(settings(variant), "cls")
    assert " over the published layers" in words or " before the input" in words
