"""The tests here are about a checkout; the sdist has its packages in another place."""

import pytest

from tests.repository import needs_checkout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "structure":
            item.add_marker(needs_checkout)
