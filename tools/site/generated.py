"""All pages of the site that are generated when it is built."""

import json
from pathlib import Path
from typing import Any

from tools.site.command_pages import command_pages
from tools.site.gallery_page import gallery_pages
from tools.site.settings_pages import settings_pages

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generated_pages() -> dict[str, str]:
    """Address of each page, relative to docs/ -> its Markdown."""
    gallery = gallery_pages(DOCS / "gallery")
    return {**command_pages(), **settings_pages(), **notebook_pages(), **gallery}


def notebook_pages() -> dict[str, str]:
    """A page for each notebook in docs/, with the outputs that its file has."""
    return {
        file.relative_to(DOCS).with_suffix(".md").as_posix(): notebook_markdown(
            json.loads(file.read_text(encoding="utf-8"))
        )
        for file in sorted(DOCS.rglob("*.ipynb"))
    }


def notebook_markdown(notebook: dict[str, Any]) -> str:
    """A notebook of text and Python cells, whose outputs are texts, as Markdown."""
    return "\n\n".join(map(_cell_markdown, notebook["cells"])) + "\n"


def _cell_markdown(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    outputs = "".join(map(_output_text, cell["outputs"])).rstrip()
    shown = f"\n\n```text\n{outputs}\n```" if outputs else ""
    return f"```python\n{source}\n```{shown}"


def _output_text(output: dict[str, Any]) -> str:
    """The text of a stream, or of the value of a cell's last line."""
    text = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    return "".join(text)
