"""The tests here are about a checkout; the sdist has its packages in another place."""

import pytest

from tests.repository import ROOT


@pytest.fixture(scope="session", autouse=True)
def _in_a_checkout() -> None:
    if not (ROOT / "extract").is_dir():
        pytest.skip("needs a checkout: the sdist has its packages below src/epalm")
