"""Run the notebooks of the documentation and write their outputs into the files.

    python -m tools.site.run_notebook docs/tutorials/features.ipynb

Each runs in an empty temporary folder, cell by cell in this process, without a Jupyter kernel.
Outputs are texts: what a cell prints, and the value of its last line.
"""

import ast
import io
import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def run_cells(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Execute the code cells in their order, in the current folder.

    Args:
        notebook: content of a notebook file.

    Returns:
        The outputs of each code cell, in the format of such a file.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    return [
        _run_cell("".join(cell["source"]), names, number)
        for number, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code"
    ]


def _run_cell(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run one cell; its printed text and the value of its last expression as outputs."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        lines = text.splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        result = {"data": data, "execution_count": None, "metadata": {}}
        outputs.append({**result, "output_type": "execute_result"})
    return outputs


def main(files: list[str]) -> None:
    """Run each notebook and write it back with its outputs."""
    for name in files:
        file = Path(name).absolute()
        notebook = json.loads(file.read_text(encoding="utf-8"))
        before = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            outputs = run_cells(notebook)
            os.chdir(before)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for cell, output in zip(cells, outputs, strict=True):
            cell["outputs"] = output
        file.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
