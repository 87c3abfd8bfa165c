import ast
import json
import sys
from pathlib import Path

import pytest

from epalm.errors import UsageError
from epalm.plugins import TypedName, load_plugin
from tests.repository import PACKAGES, ROOT, needs_checkout, sources

KNOWN = {"join": "os.path:join"}

MAKERS_OF_TYPED_NAMES = {
    "api/batch_encoder.py",  # names that the caller of a function gives
    "api/commands.py",
    "api/store_datasink.py",
    "ask/run_encoder.py",  # the encoders of the demo
    "demo/modalities.py",  # names of its own encoders
    "evaluate/alignment/alignment_options.py",
    "evaluate/preparation/eval_options.py",
    "evaluate/score_cli.py",
    "extract/cli.py",
    "extract/store_commands/plan_cli.py",
    "extract/store_commands/store_cli.py",
    "tasks/task_registry.py",  # names in code that a user named
    "train/official/import_cli.py",
    "train/options/resolve_options.py",
}


def find(name: str) -> object:
    return load_plugin(name, KNOWN, what="function", option="--function")


def test_a_known_name_is_imported() -> None:
    assert load_plugin("join", KNOWN, what="function", option="--function")("a", "b") == "a/b"


def test_a_module_of_the_current_folder_is_found_by_a_typed_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_entries.py").write_text("answer = 42\n")
    monkeypatch.chdir(tmp_path)
    assert find(TypedName("my_own_entries:answer")) == 42


def test_a_known_name_is_not_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optional_package.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    known = {"good": "optional_package:thing"}
    with pytest.raises(ImportError):
        load_plugin("good", known, what="function", option="--function")


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"is no function \(known are join\): did you mean join\?"):
        find("jion")


@pytest.mark.parametrize("name", ["other", "os.path:joined", "no_such_module:x", "", ":x"])
def test_anything_else_is_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(UsageError, match=r"is no function \(known are join\)"):
        find(TypedName(name))


@pytest.mark.parametrize("name", ["os:system", "os.path:join", "planted:run", "planted"])
def test_a_name_from_a_file_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "planted.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"comes from a file.* name it yourself with --function"):
        find(name)


def test_a_typed_name_that_was_written_to_a_file_is_a_name_from_a_file() -> None:
    stored = json.loads(json.dumps({"task": TypedName("os:system")}))["task"]
    assert type(stored) is str
    with pytest.raises(UsageError, match="comes from a file"):
        find(stored)


@needs_checkout
def test_nobody_but_the_commands_makes_typed_names() -> None:
    makers = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in sources(package)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name) and node.id == "TypedName"
    }
    assert makers - {"src/epalm/plugins.py"} == MAKERS_OF_TYPED_NAMES
