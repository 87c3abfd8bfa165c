"""The web page of a server in headless Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.evaluate.report.browser import Browser, running_browser

WAIT = """new Promise((done, failed) => {
  const end = Date.now() + 20000;
  (function look() {
    if (CONDITION) done(true);
    else if (Date.now() > end) failed(new Error(`waited for CONDITION`));
    else setTimeout(look, 50);
  })();
})"""

KNOWS_THE_RUN = "part('about').textContent !== ''"


class Page:
    """The page, as its user sees it."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def open(self, url: str, until: str) -> None:
        """Load the page, and wait until an expression is true."""
        self.browser.call("Page.navigate", url=url)
        self.wait(f"location.protocol === 'http:' && typeof part === 'function' && {until}")

    def wait(self, condition: str) -> None:
        """Wait until an expression of the page is true."""
        assert self.browser.evaluate(WAIT.replace("CONDITION", condition)) is True

    def choose(self, file: Path) -> None:
        """Choose a file, as the dialog of the browser does."""
        document = self.browser.call("DOM.getDocument")["root"]["nodeId"]
        found = self.browser.call("DOM.querySelector", nodeId=document, selector="#file")
        self.browser.call("DOM.setFileInputFiles", files=[str(file)], nodeId=found["nodeId"])

    def type(self, text: str) -> None:
        """Type a question and press Enter."""
        self.browser.evaluate("part('question').focus(), part('question').select()")
        self.browser.call("Input.insertText", text=text)
        self.browser.press("Enter", "\r")

    def text(self, name: str) -> str:
        """Text of an element, by its id."""
        return str(self.browser.evaluate(f"part('{name}').textContent"))

    def answered(self) -> None:
        """Wait until an answer, or an error, is complete."""
        self.wait(
            "!part('ask').disabled && (part('probability').textContent || "
            "part('error').textContent)"
        )


@contextmanager
def opened_page(
    program: str, profile: Path, url: str, *, until: str = KNOWS_THE_RUN
) -> Iterator[Page]:
    """The page in a browser of its own."""
    with running_browser(program, profile) as browser:
        page = Page(browser)
        page.open(url, until)
        yield page
