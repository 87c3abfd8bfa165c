"""The site is built without warnings and loads nothing from other hosts."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import texts
from tests.repository import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("material") and find_spec("mkdocstrings")),
        reason="needs the extra docs: pip install -c constraints.txt -e '.[docs]'",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.findall(r"^.*\bWARNING +-.*$", result.stderr, re.MULTILINE) == []
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    pages = {name.removeprefix("docs/") for name in texts() if name.startswith("docs/")}
    assert [one for one in pages if not (site / one).with_suffix(".html").is_file()] == []


def test_no_page_shows_an_escaped_pipe(site: Path) -> None:
    pages = site.rglob("*.html")
    assert [page.name for page in pages if "\\|" in page.read_text(encoding="utf-8")] == []


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    loading = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//[^>]*>"
        r"|<link[^>]*\shref=[\"']?(?:https?:)?//[^>]*>"
    )
    found = {
        match
        for page in site.rglob("*.html")
        for match in loading.findall(page.read_text(encoding="utf-8"))
    }
    assert found == set()
    styles = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//", styles) == []


def test_the_reference_of_python_has_signatures_and_descriptions(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert 'id="epalm.ask.run_model.Model.answer"' in page
    assert "Load a trained run to answer questions about new samples." in page
    assert "<blockquote>" not in page, "examples in a docstring need the heading Examples:"
