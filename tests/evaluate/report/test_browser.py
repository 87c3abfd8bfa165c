"""The report in a real browser: filters, keyboard, narrow and wide, light and dark."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from epalm.evaluate.report.run_report import ReportData, write_report
from epalm.evaluate.scores.eval_results import Evaluation, Score
from epalm.tasks.types import MediaItem
from tests.evaluate.helpers import COLORS, evaluation
from tests.evaluate.report.browser import Browser, find_browser, running_browser
from tests.evaluate.report.test_embedded_media import write_clip, write_sound

PROGRAM = find_browser()

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium: apt-get install it")

SHOWN = "[...document.querySelectorAll('[data-groups]')].filter((card) => !card.hidden)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM
    with running_browser(PROGRAM, tmp_path_factory.mktemp("profile")) as actual:
        yield actual


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report about an image, a video, a video that browsers do not play, and an audio clip."""
    folder = tmp_path_factory.mktemp("page")
    write_clip(folder / "b.mp4", "h264", (320, 240))
    write_clip(folder / "c.avi", "mpeg4", (320, 240))
    write_sound(folder / "d.wav", 1.0)
    Image.new("RGB", (320, 240), "red").save(folder / "a.png")
    files = zip(COLORS, ("a.png", "b.mp4", "c.avi", "d.wav"), strict=True)
    modalities = {".png": "image", ".mp4": "video", ".avi": "video", ".wav": "audio"}
    media = {
        key: MediaItem(key, folder, name, modalities[name[1:]])  # type: ignore[arg-type]
        for key, name in files
    }
    (folder / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 1.0}\n' * 2)
    data = ReportData(
        "title",
        (replace(varied("blind"), blind=True), varied("full")),
        media=media,
        metrics_files=(folder / "metrics.jsonl",) * 2,
    )
    write_report(folder / "report.html", data)
    return folder / "report.html"


def varied(run: str) -> Evaluation:
    """40 questions of two types; every fifth is about cups."""
    actual = evaluation(run, answers=40)
    answered = tuple(
        replace(
            one,
            prompt="how many cups?" if row % 5 == 0 else one.prompt,
            question_type="how many" if row % 5 == 0 else "what is",
        )
        for row, one in enumerate(actual.predictions)
    )
    return replace(actual, predictions=answered)


def count(browser: Browser) -> int:
    actual = browser.evaluate(f"{SHOWN}.length")
    assert isinstance(actual, int)
    output = browser.evaluate("document.getElementById('shown').textContent")
    assert output == f"{actual} of 36 shown"
    return actual


def test_the_page_opens_without_errors_and_without_a_network(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.evaluate("document.title") == "title"
    broken = browser.evaluate("[...document.images].filter((image) => !image.naturalWidth).length")
    assert broken == 0
    assert browser.evaluate("[...document.images].filter((image) => !image.alt).length") == 0
    assert browser.complaints == []


def test_errors_of_a_page_are_detected(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('a'); missing();</script><img src='none.png'>")
    browser.open(bad)
    browser.evaluate("0")
    assert len(browser.complaints) >= 3


def test_filters_can_be_combined(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert count(browser) == 36
    browser.evaluate("document.querySelector('[data-show=worst]').click()")
    assert count(browser) == 12
    assert browser.evaluate(f"{SHOWN}.every((card) => card.dataset.groups.includes('worst'))")
    browser.evaluate("document.querySelector('[data-show=all]').click()")
    choose = "type.value = 'how many'; type.dispatchEvent(new Event('change'))"
    browser.evaluate(choose)
    cups = count(browser)
    assert 0 < cups < 36
    assert browser.evaluate(f"{SHOWN}.every((card) => card.textContent.includes('cups'))")
    browser.evaluate("words.value = 'no such words'; words.dispatchEvent(new Event('input'))")
    assert count(browser) == 0
    browser.evaluate("words.value = 'CUPS many'; words.dispatchEvent(new Event('input'))")
    assert count(browser) == cups
    assert browser.complaints == []


def test_the_gallery_is_reached_and_filtered_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    browser.press("Enter", "\r")
    for _ in range(6):  # the switch of the blind control, then the groups
        browser.press("Tab")
    assert browser.evaluate("document.activeElement.dataset.show") == "random"
    browser.press(" ", " ")
    assert browser.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert count(browser) == 12
    browser.press("Tab")
    browser.press("Tab")
    browser.call("Input.insertText", text="cups")
    assert browser.evaluate("document.activeElement.value") == "cups"
    assert count(browser) < 12


CONTROLS = "[...document.querySelectorAll('.control')].filter((one) => one.checkVisibility())"


def test_the_answers_of_the_blind_control_can_be_hidden(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.evaluate(f"{CONTROLS}.length") == 36
    browser.evaluate("document.getElementById('compare-blind').click()")
    assert browser.evaluate(f"{CONTROLS}.length") == 0
    assert browser.evaluate("[...document.querySelectorAll('.answer')].length") == 72
    browser.evaluate("document.getElementById('compare-blind').click()")
    assert browser.evaluate(f"{CONTROLS}.length") == 36
    assert browser.complaints == []


def test_the_switch_of_the_blind_control_needs_no_script(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    markup = page.read_text(encoding="utf-8")
    strict = re.sub(r"script-src '[^']*'", "script-src 'none'", markup)
    assert strict != markup
    (tmp_path / "strict.html").write_text(strict, encoding="utf-8")
    browser.open(tmp_path / "strict.html")
    hidden = "getComputedStyle(document.querySelector('.filters')).display"
    assert browser.evaluate(hidden) == "none"  # they would do nothing
    assert browser.evaluate(f"{CONTROLS}.length") == 36
    browser.evaluate("document.getElementById('compare-blind').click()")
    assert browser.evaluate(f"{CONTROLS}.length") == 0


def test_only_the_script_of_the_page_may_run(browser: Browser, page: Path, tmp_path: Path) -> None:
    markup = page.read_text(encoding="utf-8")
    foreign = markup.replace("<main>", "<script>document.title = 'taken'</script><main>")
    (tmp_path / "foreign.html").write_text(foreign, encoding="utf-8")
    browser.open(tmp_path / "foreign.html")
    assert browser.evaluate("document.title") == "title"
    assert len(browser.complaints) == 1
    assert count(browser) == 36  # the page's own script ran


def test_every_link_of_the_contents_leads_to_a_heading(browser: Browser, page: Path) -> None:
    browser.open(page)
    targets = browser.evaluate(
        "[...document.querySelectorAll('.contents a')].map((link) => "
        "[link.textContent, document.querySelector(link.getAttribute('href')).textContent])"
    )
    assert isinstance(targets, list)
    assert [text for text, _ in targets] == [heading for _, heading in targets]
    headings = browser.evaluate(
        "[...document.querySelectorAll('h2')].map((one) => one.textContent)"
    )
    assert [text for text, _ in targets] == headings


def test_a_narrow_page_has_two_columns_of_cards_and_whole_rows_of_time(
    browser: Browser, page: Path
) -> None:
    browser.look(width=390, scheme="light")
    browser.open(page)
    widths = (
        "[...document.querySelectorAll('.card')].filter((one) => one.matches('{}'))"
        ".map((one) => one.getBoundingClientRect().width)"
    )
    still = browser.evaluate(widths.format(":not(.wide, .audible)"))
    timed = browser.evaluate(widths.format(".wide, .audible"))
    assert isinstance(still, list)
    assert isinstance(timed, list)
    assert still
    assert timed
    assert max(still) <= (390 - 32) / 2
    assert min(timed) > 390 - 40
    assert browser.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("width", [1280, 420, 390])
@pytest.mark.parametrize(("scheme", "darkest", "brightest"), [("light", 200, 255), ("dark", 0, 50)])
def test_the_page_fits_its_window_and_color_scheme(
    browser: Browser, page: Path, width: int, scheme: str, darkest: int, brightest: int
) -> None:
    browser.look(width=width, scheme=scheme)
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    with Image.open(io.BytesIO(browser.screenshot())) as picture:
        assert picture.width == width
        corner = picture.convert("L").getpixel((2, 2))
    assert isinstance(corner, int)
    assert darkest <= corner <= brightest


@pytest.mark.parametrize("width", [1280, 420])
def test_published_results_fit_beside_ones_own(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    own = replace(evaluation(), task="vqa2", headline="accuracy", scores={"accuracy": Score(0.31)})
    write_report(tmp_path / "report.html", ReportData("title", (own,)))
    browser.look(width=width, scheme="light")
    browser.open(tmp_path / "report.html")
    browser.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    shown = browser.evaluate("document.querySelector('.row.paper .number').textContent")
    assert shown == "54.89"
    cell = "getComputedStyle(document.querySelector('.words td:nth-child(3)')).textAlign"
    assert browser.evaluate(cell) == ("left" if width < 600 else "right")
    panels = "[...document.querySelectorAll('.scroll:has(.words)')]"
    cut = browser.evaluate(f"{panels}.filter((it) => it.scrollWidth > it.clientWidth).length")
    assert cut == 0


def test_narrow_tables_are_stacked_and_others_shade_the_edge_where_they_are_cut_off(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    reach = "[...document.querySelectorAll('{}')].map((one) => [one.scrollWidth, one.clientWidth])"
    stacked = reach.format(".scroll:has(.stack)")
    browser.look(width=420, scheme="light")
    panels = browser.evaluate(stacked)
    assert isinstance(panels, list)
    assert len(panels) >= 2  # differences, settings
    assert all(needed <= there for needed, there in panels)
    output = "getComputedStyle(document.querySelector('.stack [data-label=p]'), '::before').content"
    assert browser.evaluate(output) == '"p: "'
    assert edge(browser, left=0) < 240 < edge(browser, left=10_000)
    browser.look(width=1280, scheme="light")
    assert browser.evaluate(output) == "none"


def edge(browser: Browser, *, left: int) -> int:
    """How bright the right edge of the table of scores is, made narrow and scrolled so far."""
    place = browser.evaluate(
        "(() => { const panel = document.querySelector('.scroll:not(:has(.stack))');"
        "panel.style.width = '150px'; panel.scrollIntoView({block: 'center'});"
        f"panel.scrollLeft = {left}; const it = panel.getBoundingClientRect();"
        "return [it.right - 3, it.bottom - 8]; })()"
    )
    assert isinstance(place, list)
    with Image.open(io.BytesIO(browser.screenshot())) as picture:
        actual = picture.convert("L").getpixel((int(place[0]), int(place[1])))
    assert isinstance(actual, int)
    return actual


def test_media_play(browser: Browser, page: Path) -> None:
    browser.open(page)
    loaded = (
        "Promise.all([...document.querySelectorAll('video, audio')].map((one) => one.readyState"
        " >= 1 || new Promise((done) => { one.onloadedmetadata = done; one.onerror = () =>"
        " done(false); }).then(() => one.readyState >= 1)))"
    )
    ready = browser.evaluate(loaded)
    assert isinstance(ready, list)
    assert len(ready) >= 6
    assert all(ready)
