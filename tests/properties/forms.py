"""Property tests in two forms: a few examples by default, many with `-m slow`; both are seeded."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy, characters, text

QUICK, LONG = 20, 1000
"""Examples of the two forms."""

TEXTS = text(characters(exclude_categories=["Cs"]), max_size=20)
"""Any text that can be written to a UTF-8 file."""


def holds_for(
    quick: int = QUICK,
    **strategies: SearchStrategy[Any],
) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Make a test of a function that takes drawn values by name and asserts what holds for all.

    Args:
        quick: examples of the default form.
        strategies: where each argument is drawn from.
    """

    def decorate(check: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("examples", [quick, pytest.param(LONG, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            bounded = settings(
                max_examples=examples,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            )
            bounded(given(**strategies)(check))()

        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        return test

    return decorate
