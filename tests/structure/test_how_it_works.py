"""docs/explanation/how_it_works.md: its steps name functions that exist, its examples run."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository import ROOT
from tests.train.helpers import make_world

PAGE = (ROOT / "docs" / "explanation" / "how_it_works.md").read_text(encoding="utf-8")

STATION = re.compile(r"^\d+\. `([\w/]+\.py)`(?:, or [^:]*)?: `([\w.]+)\(([^`]*)\)`", re.MULTILINE)
"""A numbered step: the file, the function or class, and its arguments."""


CALLED = ("__init__", "__call__")
"""Methods whose parameters are those of a class in the document."""


def parameters(file: str, name: str) -> set[str] | None:
    """Names of the parameters of a function, method or class of a file; None if it has none such.

    A class has the parameters of `__init__`, or its annotated fields, and those of `__call__`.
    """
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    node: ast.AST | None = None
    for part in name.split("."):
        named = [
            one
            for one in body
            if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == part
        ]
        if not named:
            return None
        node, body = named[0], named[0].body
    if isinstance(node, ast.FunctionDef):
        return set(_arguments(node))
    fields = {one.target.id for one in body if isinstance(one, ast.AnnAssign)}
    methods = [one for one in body if isinstance(one, ast.FunctionDef)]
    return fields.union(*(_arguments(one) for one in methods if one.name in CALLED))


def _arguments(function: ast.FunctionDef) -> Iterator[str]:
    every = function.args
    yield from (one.arg for one in (*every.posonlyargs, *every.args, *every.kwonlyargs))


@pytest.mark.parametrize(("file", "name", "arguments"), STATION.findall(PAGE))
def test_a_step_names_a_function_and_its_arguments(file: str, name: str, arguments: str) -> None:
    known = parameters(file, name)
    assert known is not None, f"{file} has no {name}"
    given = {argument.strip() for argument in arguments.split(",")} - {"", "..."}
    assert given <= known


def test_the_steps_of_every_journey_are_read() -> None:
    journeys = PAGE.split("\n## ")[1:]
    assert [len(STATION.findall(journey)) for journey in journeys] == [10, 10, 10]


def test_the_examples_train_and_evaluate_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path)
    (tmp_path / "cache").mkdir()
    Path(world.store).rename(tmp_path / "cache" / "own_vitb16.zarr")
    (tmp_path / "own").symlink_to(world.data)
    monkeypatch.chdir(tmp_path)
    train, evaluate = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(train.replace("facebook/opt-125m", str(tmp_path / "lm")), {})
    names: dict[str, object] = {}
    exec(evaluate, names)
    assert Path("runs/own/eval/val-beams3/scores.json").is_file()
    assert str(names["result"].folder) == "runs/own/eval/val-beams3"  # type: ignore[attr-defined]
