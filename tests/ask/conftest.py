"""Small runs for the tests of answers about new samples."""

import shutil
from collections.abc import Iterator

import pytest

from epalm.ask.run_model import Model, load
from tests.ask.small_runs import MADE_FOLDERS, SmallRun, small_run


@pytest.fixture(scope="session", autouse=True)
def _removed_at_the_end() -> Iterator[None]:
    yield
    for folder in MADE_FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)  # tests of the server remove theirs


@pytest.fixture(scope="session")
def image_run() -> SmallRun:
    return small_run("image")


@pytest.fixture(scope="session")
def model(image_run: SmallRun) -> Model:
    return load(image_run.run, device="cpu")
