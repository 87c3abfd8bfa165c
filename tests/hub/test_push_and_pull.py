"""Runs and stores to the stand-in of the hub and back, with the real client."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from huggingface_hub import constants

from epalm.errors import EpalmError, HubError, RunFolderError, StoreError, UsageError
from epalm.evaluate import cli as evaluate_cli
from epalm.hub import pull_cli, push_cli
from epalm.hub.pull import fetch_run, planned_download, pull
from epalm.hub.push import planned_upload, push
from epalm.hub.shared_files import run_files
from tests.cache.helpers import finished_store
from tests.evaluate.helpers import TinyRun, make_run
from tests.hub.stand_in import Hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""What the client's HTTP library says about how the client uploads."""


def call(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["epalm", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    """A finished run that was evaluated, with files that are nobody else's."""
    made = make_run(tmp_path / "here")
    (made.folder / "recipe.toml").write_text("epochs = 1\nlr = 1e-3\n")
    options = ("--run", made.folder, "--split", "val", "--device", "cpu", "--quiet")
    assert call(monkeypatch, evaluate_cli, *options) == 3
    (made.folder / "checkpoint.safetensors").write_bytes(b"state")
    (made.folder / ".lock").write_text("{}")
    (made.folder / "wandb").mkdir()
    (made.folder / "wandb" / "secret.txt").write_text("key")
    return made


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()


def test_a_run_goes_to_the_hub_and_back_byte_for_byte(
    run: TinyRun, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, push_cli, run.folder, "user/tiny", "--quiet") == 0
    pushed = hub.files("user/tiny")
    assert pushed.keys() - {".gitattributes"} == {
        *("run.json", "config.json", "README.md", "recipe.toml", "adapter.safetensors"),
        *("metrics.jsonl", "eval/val/scores.json", "eval/val/predictions.jsonl"),
    }
    assert b'epalm.load("user/tiny")' in pushed["README.md"]
    assert str(tmp_path).encode() not in b"".join(pushed.values())
    out = tmp_path / "there" / "runs" / "tiny"
    assert call(monkeypatch, pull_cli, "user/tiny", "--out", out, "--quiet") == 0
    pulled = contents(out)
    assert pulled == {name: contents(run.folder)[name] for name in pulled}
    assert pulled.keys() == pushed.keys() - {".gitattributes"}
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    places = (
        "--features",
        run.store,
        "--data-root",
        run.data,
        "--lm",
        run.folder.parents[1] / "lm",
    )
    options = ("--run", out, "--split", "val", "--device", "cpu", "--quiet", *places)
    assert call(monkeypatch, evaluate_cli, *options) == 3
    before, after = (
        json.loads((folder / "eval/val/scores.json").read_text()) for folder in (run.folder, out)
    )
    assert before["scores"] == after["scores"]
    name = "eval/val/predictions.jsonl"
    assert (run.folder / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_store_goes_to_the_hub_and_back_byte_for_byte(
    name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_store(tmp_path / "here" / name)
    assert call(monkeypatch, push_cli, tmp_path / "here" / name, "user/data", "--quiet") == 0
    files = hub.files("user/data", "dataset")
    assert f"hf://datasets/user/data/{name}" in files["README.md"].decode()
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, pull_cli, "user/data", "--quiet") == 0
    assert contents(tmp_path / "cache") == contents(tmp_path / "here")
    assert call(monkeypatch, pull_cli, "datasets/user/data", "--quiet") == 0  # it is there already


def test_pushing_again_sends_only_what_changed(run: TinyRun, hub: Hub) -> None:
    upload = planned_upload(str(run.folder), "user/tiny", checkpoints=False)
    push(upload, private=True)
    assert hub.repositories["model", "user/tiny"].private
    sent = len(hub.uploaded)
    assert sent > 0
    for file in (run.folder / "eval/val").iterdir():
        file.unlink()
    push(planned_upload(str(run.folder), "user/tiny", checkpoints=True), private=True)
    assert len(hub.uploaded) == sent
    names = hub.files("user/tiny").keys()
    assert "checkpoint.safetensors" in names
    assert "eval/val/scores.json" not in names


def test_a_branch_is_created_and_pulled(run: TinyRun, hub: Hub, tmp_path: Path) -> None:
    upload = planned_upload(str(run.folder), "user/tiny", checkpoints=False)
    push(upload, private=False, revision="v2")
    assert hub.files("user/tiny").keys() == {".gitattributes"}
    pull(planned_download("user/tiny", revision="v2"), tmp_path / "out")
    assert (tmp_path / "out" / "run.json").is_file()
    with pytest.raises(HubError, match="no such revision"):
        planned_download("user/tiny", revision="v3")


def test_a_dry_run_sends_nothing(
    run: TinyRun, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run.folder)
    assert call(monkeypatch, push_cli, run.folder, "user/tiny", "--dry-run", "--json") == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert listed["files"]["adapter.safetensors"] == len(before["adapter.safetensors"])
    assert listed["bytes"] == sum(listed["files"].values())
    assert hub.requests == []
    assert contents(run.folder) == before


def test_an_unfinished_run_is_refused(run: TinyRun) -> None:
    (run.folder / "recipe.toml").write_text("epochs = 4\n")
    with pytest.raises(RunFolderError, match="not finished, 1 of 4 epochs"):
        run_files(run.folder, checkpoints=False)
    (run.folder / "adapter.safetensors").unlink()
    with pytest.raises(EpalmError, match=r"has no adapter\.safetensors"):
        run_files(run.folder, checkpoints=False)


def test_a_link_in_a_run_is_refused(run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    (run.folder / "metrics.jsonl").unlink()
    (run.folder / "metrics.jsonl").symlink_to(tmp_path / "private")
    with pytest.raises(EpalmError):
        run_files(run.folder, checkpoints=False)


def test_an_incomplete_or_damaged_store_is_refused(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.zarr")
    (tmp_path / "s.zarr/cls/c/1/0/0/0").write_bytes(b"")
    with pytest.raises(StoreError, match="is damaged"):
        planned_upload(store.location, "user/data", checkpoints=False)
    store.uncommit_shard(1)
    with pytest.raises(StoreError, match="is incomplete"):
        planned_upload(store.location, "user/data", checkpoints=False)


@pytest.mark.parametrize(
    "name", ["tiny", "a/b/c", "user/..", "../tiny", "user/na me", f"user/{'n' * 96}", "user/a--b"]
)
def test_a_target_that_is_no_repository_is_refused(run: TinyRun, name: str) -> None:
    with pytest.raises(UsageError, match="give one as user/name"):
        planned_upload(str(run.folder), name, checkpoints=False)


def test_without_a_token_the_hub_refuses_in_one_line(
    run: TinyRun, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert call(monkeypatch, push_cli, run.folder, "user/tiny", "--quiet") == 1
    assert "the hub does not know who you are (401" in capsys.readouterr().err
    assert hub.repositories == {}


def test_errors_of_the_hub_are_explained(
    run: TinyRun, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    upload = planned_upload(str(run.folder), "stranger/tiny", checkpoints=False)
    with pytest.raises(HubError, match="may not write to stranger/tiny"):
        push(upload, private=False)
    with pytest.raises(HubError, match="no repository user/absent that you may read"):
        planned_download("user/absent")
    with pytest.raises(HubError, match="no repository user/absent"):
        fetch_run("user/absent")
    hub.publish("user/other", {"config.json": b"{}"})
    with pytest.raises(HubError, match="has neither a run"):
        planned_download("user/other")
    with pytest.raises(HubError, match="is no run of epalm"):
        fetch_run("user/other")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="was not reached"):
        planned_download("user/tiny")


def test_a_hub_without_xet_is_explained(
    run: TinyRun, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    pytest.importorskip("hf_xet", reason="the client uses Xet only where hf_xet is installed")
    assert call(monkeypatch, push_cli, run.folder, "user/tiny", "--quiet") == 1
    assert "set HF_HUB_DISABLE_XET=1" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["../evil", "eval/../../evil", "/etc/evil", "a\\b", "a/./b"])
def test_names_that_leave_the_folder_are_refused(name: str, hub: Hub, tmp_path: Path) -> None:
    hub.publish("user/evil", {"run.json": b"{}", "adapter.safetensors": b"", name: b"evil"})
    with pytest.raises(HubError, match="nothing was downloaded"):
        planned_download("user/evil")


def test_only_files_of_runs_are_pulled(run: TinyRun, hub: Hub, tmp_path: Path) -> None:
    push(planned_upload(str(run.folder), "user/tiny", checkpoints=False), private=False)
    more = {"setup.py": b"evil()", "last.pt": b"pickle", "eval/val/x.sh": b"rm"}
    hub.publish("user/tiny", hub.files("user/tiny") | more)
    pull(planned_download("user/tiny"), tmp_path / "out")
    assert not more.keys() & contents(tmp_path / "out").keys()


def test_a_run_that_is_there_is_not_overwritten(run: TinyRun, hub: Hub, tmp_path: Path) -> None:
    push(planned_upload(str(run.folder), "user/tiny", checkpoints=False), private=False)
    download, out = planned_download("user/tiny"), tmp_path / "out"
    pull(download, out)
    assert pull(download, out) == [out]
    (out / "adapter.safetensors").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"\(adapter\.safetensors differs\): nothing was changed"):
        pull(download, out)
    assert (out / "adapter.safetensors").read_bytes() == b"mine"


def test_a_damaged_adapter_is_refused(run: TinyRun, hub: Hub, tmp_path: Path) -> None:
    push(planned_upload(str(run.folder), "user/tiny", checkpoints=False), private=False)
    files = hub.files("user/tiny")
    data = files["adapter.safetensors"]
    changed = data[:-1] + bytes([data[-1] ^ 1])
    hub.publish("user/tiny", files | {"adapter.safetensors": changed})
    with pytest.raises(EpalmError, match="user/tiny has a damaged run"):
        pull(planned_download("user/tiny"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(EpalmError, match="user/tiny has a damaged run"):
        fetch_run("user/tiny")


def test_an_interrupted_pull_resumes(run: TinyRun, hub: Hub, tmp_path: Path) -> None:
    push(planned_upload(str(run.folder), "user/tiny", checkpoints=False), private=False)
    download, out = planned_download("user/tiny"), tmp_path / "out"
    data = hub.files("user/tiny")["adapter.safetensors"]
    staging = tmp_path / ".out.pull"
    staging.mkdir()
    (staging / "run.json").write_bytes(hub.files("user/tiny")["run.json"])
    hub.broken["adapter.safetensors"] = len(data) // 2
    try:
        pull(download, out)
    except HubError:  # the client may resume by itself
        pull(download, out)
    assert (out / "adapter.safetensors").read_bytes() == data
    assert not staging.exists()


def test_a_run_in_the_cache_is_found_without_network(
    run: TinyRun, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(planned_upload(str(run.folder), "user/tiny", checkpoints=False), private=False)
    folder = fetch_run("user/tiny")
    assert (folder / "run.json").read_bytes() == (run.folder / "run.json").read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch_run("user/tiny") == folder
