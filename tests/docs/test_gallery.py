"""The gallery: valid commands, what is published, and the table of the cards."""

import re
from pathlib import Path

import pytest
import typer

from epalm import load
from epalm.extract.cli import app as extract
from epalm.train.cli import app as train
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import load_recipe
from tests.ask.small_runs import small_run
from tests.structure.test_help import MODULES
from tools.gallery import adapters, publish
from tools.site.gallery_page import ADDRESS, gallery_pages

CARD = """---
library_name: epalm
metrics: [exact_match]
tags: [epalm, adapter, frozen-language-model, audio]
model-index:
- name: sounds
  results:
  - task: {{type: audio-classification}}
    dataset: {{name: sounds, type: sounds, config: val, split: val}}
    metrics:
    - type: exact_match
      value: 88.75
      name: exact_match
      args: {{confidence_level: 0.95, confidence_interval: [81.2, 95.0]}}
{control}
model_name: sounds
---
"""

CONTROL = """\
    - type: exact_match
      value: 13.75
      name: exact_match, blind control
"""


def options_of(name: str) -> set[str]:
    """Every option of a command, in all its spellings."""
    command = typer.main.get_command(MODULES[name].app)
    return {spelling for one in command.params for spelling in (*one.opts, *one.secondary_opts)}


def test_the_commands_have_only_options_that_exist(tmp_path: Path) -> None:
    assert extract is MODULES["epalm-extract"].app
    assert train is MODULES["epalm-train"].app
    for adapter in adapters([], tmp_path, tmp_path):
        for name, *words in adapter.commands():
            assert {word.partition("=")[0] for word in words} <= options_of(name)
            sets = [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
            load_recipe("small", parse_changes(sets))
    with pytest.raises(SystemExit, match=r"other: the gallery has .*flickr8k"):
        adapters(["other"], tmp_path, tmp_path)


def test_a_published_run_answers_from_its_new_place(tmp_path: Path) -> None:
    made = small_run()
    folder = publish(made.run, tmp_path / "hub", "someone/colors")
    assert folder == tmp_path / "hub" / "someone" / "colors"  # as the gallery's page says
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {"README.md", "adapter.safetensors", "run.json"} <= names
    assert not names & {"last.safetensors", "checkpoint.safetensors"}
    assert 'epalm.load("someone/colors")' in (folder / "README.md").read_text()
    (folder / "stale.bin").touch()
    assert not (publish(made.run, tmp_path / "hub", "someone/colors") / "stale.bin").exists()
    assert load(folder).record.name == made.run.name


def test_the_page_loads_the_folder_that_the_script_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sounds.md").write_text(CARD.format(control=CONTROL))
    (folder,) = set(re.findall(r'load\("(.*?)"', gallery_pages(tmp_path)[ADDRESS]))
    assert folder == "OUT/hub/epalm/NAME"
    made = small_run()
    publish(made.run, tmp_path / "OUT" / "hub", "epalm/NAME")
    monkeypatch.chdir(tmp_path)
    assert load(folder).record.name == made.run.name


def test_the_table_has_the_scores_of_the_cards(tmp_path: Path) -> None:
    assert gallery_pages(tmp_path) == {}
    (tmp_path / "sounds.md").write_text(CARD.format(control=CONTROL))
    (tmp_path / "tones.md").write_text(CARD.format(control=""))
    rows = re.findall(r"^\| \[.*$", gallery_pages(tmp_path)[ADDRESS], re.MULTILINE)
    row = "audio | sounds, `val` | exact_match | 88.75 | 81.20 to 95.00"
    assert rows == [
        f"| [sounds](sounds.md) | {row} | 13.75 |",
        f"| [sounds](tones.md) | {row} | not evaluated |",
    ]
