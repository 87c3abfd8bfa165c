"""A run folder is created completely or not at all, and has one writer at a time."""

import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.errors import RunFolderError, UsageError
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train.config.recipe import load_recipe
from epalm.train.run_files import run_claim as claim_module
from epalm.train.run_files.run_claim import claimed
from epalm.train.run_files.run_folder import write_model_card
from epalm.train.run_files.run_lock import LOCK_FILE
from tests.records import RECORD

RECIPE = load_recipe("small")


def begin(run: Path, *, fresh: bool = False) -> None:
    with claimed(run, fresh=fresh) as claim:
        claim.open(RECORD, RECIPE)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_new_folder_is_whole_and_resumes(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    begin(run)
    assert names(run) == {".lock", "recipe.toml", "run.json", "versions.json"}
    assert names(run.parent) == {"run"}
    (run / "metrics.jsonl").touch()
    begin(run)
    assert (run / "metrics.jsonl").exists()


def test_fresh_replaces_a_run_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run)
    (run / "eval").mkdir()
    (run / "eval" / "scores.json").touch()
    begin(run, fresh=True)
    assert names(run) == {".lock", "recipe.toml", "run.json", "versions.json"}
    assert names(tmp_path) == {"run"}


def test_a_claim_that_is_not_used_leaves_no_trace(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "b" / "run", fresh=False):
        assert names(tmp_path / "a" / "b") == {".run.new"}
    assert names(tmp_path) == set()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    begin(tmp_path / "run")
    assert "recipe.toml" in names(tmp_path / "run")


@pytest.mark.parametrize("fresh", [False, True])
def test_what_an_earlier_version_left_when_it_was_killed_is_taken_over(
    tmp_path: Path, *, fresh: bool
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "versions.json").write_text("{")
    (run / "run.json").write_text("")
    begin(run, fresh=fresh)
    assert RunRecord.load(run) == RECORD


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path, *, fresh: bool) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.tex").touch()
    with pytest.raises(UsageError, match="exists and is not a run: choose another --name"):
        begin(run, fresh=fresh)
    assert names(run) == {"thesis.tex"}
    with pytest.raises(UsageError, match="exists and is not a run"):
        begin(run / "thesis.tex", fresh=fresh)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_second_training_is_refused_by_the_name_of_the_first(
    tmp_path: Path, *, fresh: bool, begun: bool
) -> None:
    run = tmp_path / "run"
    who = rf"run is in use by process {os.getpid()} on \S+, since 20.*: wait until .* --name"
    with claimed(run, fresh=False) as first:
        if begun:
            first.open(RECORD, RECIPE)
        with pytest.raises(RunFolderError, match=who):
            begin(run, fresh=fresh)
        if not begun:
            first.open(RECORD, RECIPE)
        (run / "metrics.jsonl").touch()
    begin(run)
    assert "metrics.jsonl" in names(run)


def test_a_lock_file_of_nothing_but_brackets_names_no_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with claimed(run, fresh=False) as first:
        first.open(RECORD, RECIPE)
        (run / LOCK_FILE).write_text("[" * 4000)
        with pytest.raises(RunFolderError, match="in use by another process"):
            begin(run)


def test_a_run_is_refused_from_its_resumption_and_its_replacement_on(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    for fresh in (False, True):
        with claimed(tmp_path / "run", fresh=fresh) as first:
            for other in (False, True):
                with pytest.raises(RunFolderError, match="in use by process"):
                    begin(tmp_path / "run", fresh=other)
            first.open(RECORD, RECIPE)
            with pytest.raises(RunFolderError, match="in use by process"):
                begin(tmp_path / "run")


def test_who_looked_before_a_run_was_renamed_into_place_does_not_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, looked = tmp_path / "run", []
    contains_run = claim_module._contains_run

    def late(folder: Path) -> bool:
        looked.append(contains_run(folder))
        if len(looked) == 1:
            with monkeypatch.context() as plain:
                plain.setattr(claim_module, "_contains_run", contains_run)
                begin(run)
        return looked[-1]

    monkeypatch.setattr(claim_module, "_contains_run", late)
    with pytest.raises(RunFolderError, match="created by another process just now: run the same"):
        begin(run)
    assert looked == [False, True]
    assert RunRecord.load(run) == RECORD
    assert names(tmp_path) == {"run"}


def test_what_a_killed_fresh_left_beside_the_run_is_removed(tmp_path: Path) -> None:
    for ending in ("new", "old"):
        (tmp_path / f".run.{ending}").mkdir()
        (tmp_path / f".run.{ending}" / "run.json").write_text("{")
    begin(tmp_path / "run")
    begin(tmp_path / "run", fresh=True)
    assert names(tmp_path) == {"run"}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_symbolic_link_is_followed(tmp_path: Path, *, fresh: bool) -> None:
    target, link = tmp_path / "disk" / "run", tmp_path / "run"
    begin(target)
    (target / "metrics.jsonl").touch()
    link.symlink_to(target)
    begin(link, fresh=fresh)
    assert link.is_symlink()
    assert ("metrics.jsonl" in names(target)) != fresh
    assert names(tmp_path / "disk") == {"run"}


@pytest.mark.parametrize("name", ["r" * 250, "é" * 120, "with space", ".hidden"])
def test_long_and_unusual_names_work(tmp_path: Path, name: str) -> None:
    begin(tmp_path / name)
    begin(tmp_path / name, fresh=True)
    assert names(tmp_path) == {name}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("r" * 256, "name has 256 bytes, a folder's may have 255: give a shorter --name"),
        ("é" * 128, "name has 256 bytes"),
        ("..", "'..' cannot be a run's name"),
        ("a\nb", r"'a\\nb' cannot be a run's name"),
        ("a\udcff", r"'a\\udcff' cannot be a run's name"),
    ],
)
def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        begin(tmp_path / name)
    assert names(tmp_path) == set()


def test_other_settings_are_named_key_by_key(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run)
    words = r"other settings \(seed, epochs, lr in recipe.toml differ\)"
    with claimed(run, fresh=False) as claim, pytest.raises(UsageError, match=words):
        claim.open(replace(RECORD, seed=1), replace(RECIPE, lr=0.5, epochs=9))


def test_a_recipe_of_an_earlier_version_is_compared_by_its_values(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(run)
    lines = (run / "recipe.toml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("top_p", "temperature", "stair"))]
    (run / "recipe.toml").write_text("\r\n".join(["# by an earlier version", *kept]))
    begin(run)


@pytest.mark.parametrize("file", ["recipe.toml", "run.json"])
@pytest.mark.parametrize("text", ["", "{", "5", "[]", '{"model": 5}', "model = 5", "a" * 1000])
def test_a_damaged_record_ends_with_the_way_out(tmp_path: Path, file: str, text: str) -> None:
    run = tmp_path / "run"
    begin(run)
    (run / file).write_text(text)
    with pytest.raises(
        RunFolderError, match=r"run cannot be resumed \(.*: start over with --fresh"
    ):
        begin(run)
    begin(run, fresh=True)
    assert RunRecord.load(run) == RECORD


def test_a_file_system_without_locks_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    begin(tmp_path / "run")
    assert "file system without locks (No locks available): do not train twice" in caplog.text


def test_a_refusal_to_write_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    begin(tmp_path / "run")
    words = r"run could not be written \(Read-only file system\): free some space or give"
    with monkeypatch.context() as changes:
        changes.setattr(Path, "mkdir", refuse)
        with pytest.raises(RunFolderError, match=words):
            begin(tmp_path / "run", fresh=True)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(RunFolderError, match=words):
        write_model_card(tmp_path / "run")
    assert names(tmp_path / "run") == {".lock", "recipe.toml", "run.json", "versions.json"}
