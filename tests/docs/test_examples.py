"""The examples of docstrings and of docs/tutorials/using.md run as they are written."""

import doctest
import os
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import soundfile

import epalm
from epalm.demo.stages import LANGUAGE_MODEL
from tests.ask.small_runs import small_run
from tests.repository import ROOT

MODULES = (
    "epalm.api.commands",
    "epalm.api.feature_store",
    "epalm.ask.adapters.adapted_model",
    "epalm.ask.run_model",
)


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the examples name."""
    root = tmp_path_factory.mktemp("examples")
    images, sounds = small_run("image"), small_run("audio")
    shutil.copytree(images.run, root / "runs" / "scenes")
    shutil.copytree(sounds.run, root / "runs" / "captions")
    shutil.copytree(images.folder.store, root / "cache" / "image.zarr")
    shutil.copytree(images.folder.data, root / "data")
    shutil.copytree(LANGUAGE_MODEL, root / "models" / "opt-micro")
    first, second, *_ = sorted(images.folder.data.glob("media/*"))
    shutil.copy(first, root / "scene.png")
    shutil.copy(second, root / "other.png")
    first, second, *_ = sorted(sounds.folder.data.glob("media/*"))
    soundfile.write(root / "a.wav", *soundfile.read(first))
    soundfile.write(root / "b.wav", *soundfile.read(second))
    before = Path.cwd()
    os.chdir(root)
    yield root
    os.chdir(before)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_hold(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


def test_the_example_of_the_package_holds() -> None:
    examples = doctest.DocTestFinder(recurse=False).find(epalm, "epalm")
    results = [doctest.DocTestRunner().run(example) for example in examples]
    assert sum(result.attempted for result in results)
    assert not any(result.failed for result in results)


def test_the_python_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "tutorials" / "using.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/tutorials/using.md", "exec"), names)
    assert capsys.readouterr().out
    assert names["features"].shape == (6, 96)  # type: ignore[attr-defined]
