"""The generated pages have what commands, recipes and folders have, found by other ways."""

import re
import tomllib

import pytest
from typer.testing import CliRunner

from epalm import errors
from epalm.__main__ import COMMANDS
from epalm.train.config.recipe_file import RECIPE_FOLDER
from tests.ask.small_runs import small_run
from tests.docs.pages import texts
from tests.structure.test_help import MODULES
from tools.site.generated import notebook_markdown
from tools.site.markdown import cell, code, table
from tools.site.settings_pages import RUN_FILES


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_has_every_option_of_its_help(name: str) -> None:
    page = texts()[f"docs/reference/commands/{name}.md"]
    app = MODULES[f"epalm-{name}"].app
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    named = set(re.findall(r"(--[a-z][a-z-]+)", result.output)) - {"--help"}
    assert len(named) > 2
    assert [one for one in named if f"{one}" not in page] == []


def test_every_key_of_a_packaged_recipe_is_described() -> None:
    page = texts()["docs/reference/recipe.md"].partition("## Packaged recipes")[0]
    for file in RECIPE_FOLDER.glob("*.toml"):
        keys = tomllib.loads(file.read_text(encoding="utf-8")).keys() - {"extends"}
        assert [key for key in keys if f"| `{key}` |" not in page] == []


def test_every_file_of_a_run_is_described() -> None:
    run = small_run().run
    made = {str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()}
    named = {re.sub(r"^eval/[\w-]+/", "eval/SPLIT/", file) for file in made}
    named = {re.sub(r"report-[\w-]+\.png$", "report-NAME.png", file) for file in named}
    assert {"run.json", "eval/SPLIT/scores.json"} <= named
    assert named - RUN_FILES.keys() == set()


def test_every_error_has_its_exit_code() -> None:
    page = texts()["docs/reference/errors.md"]
    assert "| `CacheMismatchError` | `StoreError` | 4 |" in page
    assert "| `MissingFileError` | `DataError` | 1 |" in page
    for number in {one.exit_code for one in vars(errors).values() if hasattr(one, "exit_code")}:
        assert f"| {number} | " in page


def test_a_cell_of_a_table_stays_one_cell() -> None:
    assert cell("a | b\n  <run> `<x>`") == "a \\| b &lt;run> `<x>`"


def test_code_in_a_cell_is_shown_as_it_is() -> None:
    markdown = pytest.importorskip("markdown", reason="needs the extra docs")
    row = (code("--precision <auto|fp32>"), cell("one of `a|b` or c | d"))
    page = markdown.markdown(table(("option", "meaning"), [row]), extensions=["tables"])
    assert re.findall("<td>(.*)</td>", page) == [
        "<code>--precision &lt;auto|fp32&gt;</code>",
        "one of <code>a|b</code> or c | d",
    ]


def test_a_notebook_becomes_a_page_with_its_outputs() -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": ["a\n"]}
    value = {"output_type": "execute_result", "data": {"text/plain": ["2"]}}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [stream, value]},
        {"cell_type": "code", "source": ["x = 1"], "outputs": []},
    ]
    expected = (
        "# Title\ntext\n\n```python\n1 + 1\n```\n\n```text\na\n2\n```\n\n```python\nx = 1\n```\n"
    )
    assert notebook_markdown({"cells": cells}) == expected
