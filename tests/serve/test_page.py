"""The web page in headless Chromium: a person chooses a file, asks and reads."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from epalm.serve.engine.service import Service
from epalm.serve.requests.access import Access
from tests.ask.small_runs import SmallRun
from tests.evaluate.report.browser import find_browser
from tests.serve.page_browser import KNOWS_THE_RUN, Page, opened_page
from tests.serve.running import running_server

BROWSER = find_browser()
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium: apt-get install chromium"
)


def test_the_page_has_nothing_from_elsewhere_and_allows_its_own_script_alone(
    client: httpx.Client,
) -> None:
    response = client.get("/")
    assert "://" not in response.text and "@import" not in response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert policy.count("'sha256-") == 2


@pytest.fixture(scope="module")
def page(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert BROWSER
    with opened_page(BROWSER, tmp_path_factory.mktemp("profile"), f"{client.base_url}/") as opened:
        yield opened


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_an_image_is_chosen_and_asked_about(
    page: Page, run: SmallRun, width: int, scheme: str
) -> None:
    prediction = run.predictions[0]
    page.browser.look(width=width, scheme=scheme)
    page.choose(run.file(prediction))
    page.type(prediction["prompt"])
    page.answered()
    assert page.text("error") == ""
    assert page.text("answer") == prediction["prediction"]
    assert page.text("probability").startswith("probability ")
    assert page.browser.evaluate("part('alternatives').children.length") == 5
    assert prediction["prediction"] in page.text("blind")
    assert Path(prediction["key"]).name in page.text("neighbors")
    assert page.browser.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
    assert page.browser.evaluate("document.documentElement.scrollWidth") == width
    broken = ("Security", "exceptionDetails")  # the content policy, an error in the script
    assert not [line for line in page.browser.complaints if any(word in line for word in broken)]


@needs_browser
@pytest.mark.slow
def test_the_keyboard_reaches_file_question_and_button_in_this_order(page: Page) -> None:
    page.browser.evaluate("document.activeElement.blur(), document.body.focus()")
    page.browser.call("Page.reload")
    page.wait(f"typeof part === 'function' && {KNOWS_THE_RUN}")
    reached = []
    for _ in range(3):
        page.browser.press("Tab")
        reached.append(page.browser.evaluate("document.activeElement.id"))
    assert reached == ["file", "question", "ask"]


@needs_browser
@pytest.mark.slow
def test_errors_are_shown_in_words(page: Page, run: SmallRun, tmp_path: Path) -> None:
    page.browser.call("Page.reload")
    page.wait(f"typeof part === 'function' && {KNOWS_THE_RUN}")
    page.type("what is it?")
    page.answered()
    assert page.text("error") == "Choose an image first."
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    page.choose(broken)
    page.type("what is it?")
    page.answered()
    assert page.text("error").startswith("The image cannot be decoded: not a supported image")
    page.type("   ")
    page.answered()
    assert page.text("error") == "Write a question first."
    large = tmp_path / "large.png"
    large.write_bytes(bytes(1_900_000))
    page.choose(large)
    page.type("what is it?")
    page.answered()
    assert page.text("error") == "The file is too large: at most 1.5 MB can be sent."


@needs_browser
@pytest.mark.slow
def test_the_page_asks_for_the_api_key_of_a_server_that_has_one(
    service: Service, run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stays_open() -> None:
        """The service is that of all tests."""

    monkeypatch.setattr(service, "close", stays_open)
    prediction = run.predictions[0]
    assert BROWSER
    with (
        running_server(service, Access("secret")) as client,
        opened_page(
            BROWSER, tmp_path, f"{client.base_url}/", until="!part('key-field').hidden"
        ) as page,
    ):
        assert "API key is missing" in page.text("error")
        page.browser.evaluate("part('key').value = 'secret'")
        page.choose(run.file(prediction))
        page.type(prediction["prompt"])
        page.answered()
        assert page.text("answer") == prediction["prediction"]
