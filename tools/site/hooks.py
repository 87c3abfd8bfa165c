"""Hooks of mkdocs (mkdocs.yml): add the generated pages to those in docs/."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Any, config: Any) -> Any:  # noqa: ANN401 - mkdocs is in the extra `docs` only
    """Add the pages that are made from the code's own declarations."""
    if (
        str(ROOT) not in sys.path
    ):  # the command mkdocs has its own folder there, not the current one
        sys.path.insert(0, str(ROOT))
    file_type = import_module("mkdocs.structure.files").File
    for address, text in import_module("tools.site.generated").generated_pages().items():
        files.append(file_type.generated(config, address, content=text))
    return files
