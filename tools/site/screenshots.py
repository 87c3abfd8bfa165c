"""Take the screenshots of the documentation: a report, and the web page of `epalm-serve`.

    python -m tools.site.screenshots runs/demo/image/runs/full

Needs Chromium, and a run that has been evaluated. Writes PNG files of two widths, a desktop's and a
phone's, to docs/images/.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

WIDTHS = (1280, 390)
"""Widths of the window in pixels: of a desktop, and of a phone."""

REPORT_HEIGHT, PAGE_HEIGHT = 1100, 420

COLORS = 128
"""Number of colors of a file; enough for text and charts, and a third of the bytes."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
WAIT_MS = 4000
"""Time for the scripts of a page."""

OUT = Path(__file__).resolve().parents[2] / "docs" / "images"


def photograph(address: str, name: str, out: Path, *, height: int) -> list[Path]:
    """Write `name_WIDTH.png` for each of `WIDTHS`.

    Args:
        address: URL of the page.
        name: start of the files' names.
        out: output folder.
        height: height of the window in pixels.

    Raises:
        SystemExit: there is no browser.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("there is no Chromium: apt-get install chromium")
    files = []
    for width in WIDTHS:
        file = out / f"{name}_{width}.png"
        with tempfile.TemporaryDirectory() as profile:
            command = [
                *(browser, *FLAGS, f"--user-data-dir={profile}"),
                *(f"--window-size={width},{height}", f"--virtual-time-budget={WAIT_MS}"),
                *(f"--screenshot={file}", address),
            ]
            subprocess.run(command, check=True, capture_output=True)
        with Image.open(file) as image:
            reduced = image.convert("RGB").quantize(COLORS)
        reduced.save(file, optimize=True)
        files.append(file)
    return files


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of a server for a run, which ends with the block."""
    command = [sys.executable, "-m", "epalm", "serve", str(run), "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def main(arguments: list[str]) -> None:
    """Photograph the newest report of a run, and its web page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that has been evaluated")
    parser.add_argument("--out", type=Path, default=OUT, help="output folder")
    options = parser.parse_args(arguments)
    reports = sorted(options.run.glob("eval/*/report.html"), key=lambda file: file.stat().st_mtime)
    if not reports:
        raise SystemExit(f"{options.run} has no report: run `epalm-eval --run {options.run}`")
    options.out.mkdir(parents=True, exist_ok=True)
    photograph(reports[-1].absolute().as_uri(), "report", options.out, height=REPORT_HEIGHT)
    with served(options.run) as address:
        photograph(address, "page", options.out, height=PAGE_HEIGHT)


if __name__ == "__main__":
    main(sys.argv[1:])
