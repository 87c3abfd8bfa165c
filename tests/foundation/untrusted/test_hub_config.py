"""What is said while a model is loaded from the Hugging Face hub."""

import io
import logging
from collections.abc import Iterator

import pytest
from huggingface_hub.utils import _http

from epalm.console import configure_logging
from epalm.errors import ModelError
from epalm.untrusted.hub_config import HUB_LOGGER, loading

REASON = "[Errno -2] Name or service not known"
URL = "https://huggingface.co/facebook/opt-125m/resolve/main/config.json"


@pytest.fixture
def hub_lines() -> Iterator[io.StringIO]:
    """What huggingface_hub logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    hub = logging.getLogger("huggingface_hub")
    hub.addHandler(handler)
    yield stream
    hub.removeHandler(handler)


def attempts(reason: str = REASON) -> None:
    """Log what huggingface_hub does for six attempts without an answer, then fail as it does."""
    hub = logging.getLogger(HUB_LOGGER)
    for attempt in range(1, 7):
        hub.warning(f"'{reason}' thrown while requesting HEAD {URL}")
        if attempt < 6:
            hub.warning(f"Retrying in {attempt}s [Retry {attempt}/5].")
    raise OSError("We couldn't connect to 'https://huggingface.co'")


def test_the_logger_is_that_of_the_installed_library() -> None:
    assert _http.logger.name == HUB_LOGGER


def test_attempts_to_reach_the_hub_are_one_line_and_the_reason_is_in_the_error(
    hub_lines: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(quiet=False)
    with pytest.raises(ModelError) as caught, loading(lambda error: f"no model: {error}"):
        attempts()
    assert hub_lines.getvalue() == ""
    assert capfd.readouterr().err.count("cannot be reached") == 1
    start = "no model: We couldn't connect to 'https://huggingface.co' (the hub was not reached: "
    assert str(caught.value) == f"{start}{REASON})"


def test_another_reason_is_not_hidden_behind_the_first(hub_lines: io.StringIO) -> None:
    hub = logging.getLogger(HUB_LOGGER)
    certificate = "certificate verify failed: 'self-signed'"
    with pytest.raises(ModelError, match=f"{certificate}"), loading(str):
        hub.warning(f"'{REASON}' thrown while requesting GET {URL}")
        attempts(certificate)
    assert hub_lines.getvalue() == ""


def test_other_lines_of_the_hub_are_printed(hub_lines: io.StringIO) -> None:
    hub = logging.getLogger(HUB_LOGGER)
    lines = [
        f"HTTP Error 503 thrown while requesting GET {URL}",
        "Retrying in 1s [Retry 1/5].",
        "Rate limited. Waiting 9.0s before retry [Retry 2/5].",
        "the token is invalid",
    ]
    with loading(str):
        for line in lines:
            hub.warning(line)
    hub.warning(f"'{REASON}' thrown while requesting GET {URL}")  # not while a model is loaded
    assert hub_lines.getvalue().splitlines() == [
        *lines,
        lines[0].replace("HTTP Error 503", f"'{REASON}'"),
    ]
