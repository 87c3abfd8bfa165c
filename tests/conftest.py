"""Settings of all tests."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

from epalm import precision

# Tests run many tiny tensor operations; on a busy machine threads would only wait for each other.
# Set before torch is imported, and inherited by the commands that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# Processes of pytest -n are given a width; tables in pipes would be cut to it.
os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    """Commands that run in this process set up logging and signals for good."""
    logger = logging.getLogger("epalm")
    before = logger.handlers, logger.level, logger.propagate
    handler = signal.getsignal(signal.SIGTERM)
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(autouse=True, scope="session")
def _compute_in_fp32() -> Iterator[None]:
    """`--precision auto` is fp32 on every CPU, so that results can be compared exactly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "cpu_has_bf16", lambda: False)
        yield
