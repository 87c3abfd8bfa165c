"""Running the blocks of a page as its reader does."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import code_blocks, page_text

SETUP = "set -euo pipefail\n"


def run_bash(page: str, folder: Path, **changes: str) -> str:
    """Run all bash blocks of a page in one shell, in their order; what they print.

    Args:
        page: address of the page below docs/.
        folder: the current folder of the shell.
        changes: texts of the blocks, e.g. a model to download -> what replaces each.
    """
    script = SETUP + "".join(block for _, block in code_blocks(page_text(page), "bash"))
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def run_python(page: str, folder: Path, names: dict[str, object]) -> None:
    """Run all Python blocks of a page in their order; one that begins with a file name is a module.

    Args:
        page: address of the page below docs/.
        folder: the current folder, where modules are written.
        names: the global names of the blocks.
    """
    for _, block in code_blocks(page_text(page), "python"):
        first = block.splitlines()[0]
        if first.startswith("# ") and first.endswith(".py"):
            (folder / first[2:]).write_text(block, encoding="utf-8")
        else:
            exec(compile(block, page, "exec"), names)
