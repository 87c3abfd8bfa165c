"""The installed command as schedulers run it: many processes, signals and resuming."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from epalm.cache.create_store import delete_store
from epalm.cache.store import Store
from tests.cache.helpers import file_contents
from tests.extract.helpers import TINY, random_model, save_photo, save_weights

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
PHOTOS = 1100
"""Three shards of 512 rows."""


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    names = [f"{number}.png" for number in range(PHOTOS)]
    for number, name in enumerate(names):
        save_photo(folder / name, width=8, height=8, seed=number)
    (folder / "9.png").write_text("broken")
    lines = [json.dumps({"id": name, "media": name, "answers": ["a"]}) for name in names]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    save_weights(random_model("test_vit", num_classes=3), tmp_path / "w.safetensors")
    return tmp_path


def command(out: str) -> list[str]:
    words = f"--encoder {TINY} --weights w.safetensors --dataset album --workers 1 --out {out}"
    return [str(BIN / "epalm-extract"), *words.split(), "--quiet"]


def extract(folder: Path, out: str, **environment: str) -> int:
    env = {**os.environ, **environment}
    return subprocess.run(command(out), cwd=folder, env=env, capture_output=True).returncode


def alive(group: int) -> list[str]:
    """The running processes of a group; field 3 of `stat` is the state, field 5 the group."""
    actual = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, state = file.read_text().rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state.split()[2] == str(group) and state.split()[0] != "Z":
            actual.append(name)
    return actual


def test_torchrun_makes_the_store_of_one_process(album: Path) -> None:
    torchrun = [str(BIN / "torchrun"), "--nproc-per-node", "2", "--no-python"]
    subprocess.run([*torchrun, *command("a.zarr")], cwd=album, capture_output=True, check=True)
    assert extract(album, "alone.zarr") == 3
    assert file_contents(Store.open(album / "a.zarr")) == file_contents(
        Store.open(album / "alone.zarr")
    )


def test_the_tasks_of_a_slurm_array_make_the_store_of_one_process(album: Path) -> None:
    array = {"MIN": "1", "MAX": "2", "STEP": "1", "COUNT": "2"}
    for task in ("1", "2"):
        variables = {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}
        assert extract(album, "a.h5", SLURM_ARRAY_TASK_ID=task, **variables) == 0
    assert Store.open(album / "a.h5").missing_shards() == []
    whole = file_contents(Store.open(album / "a.h5"))
    delete_store(Store.open(album / "a.h5"))
    extract(album, "a.h5")
    assert file_contents(Store.open(album / "a.h5")) == whole


def test_a_signal_before_the_first_image_gives_exit_code_75_too(album: Path) -> None:
    running = subprocess.Popen(command("a.zarr"), cwd=album, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    running.send_signal(signal.SIGTERM)
    _, output = running.communicate(timeout=60)
    assert (running.returncode, "run the same command again to resume" in output) == (75, True)


def test_nothing_is_left_in_the_folder_for_temporary_files(album: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert extract(album, "a.zarr", TMPDIR=str(scratch)) == 3
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_75_and_no_process_is_left(
    album: Path, number: signal.Signals
) -> None:
    running = subprocess.Popen(
        command("a.zarr"), cwd=album, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    store = Store.at(album / "a.zarr")
    while not (store.exists() and len(store.missing_shards()) < 3):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    _, output = running.communicate(timeout=30)
    assert running.returncode == 75
    assert "of 3 shards to do: run the same command again to resume" in output
    deadline = time.monotonic() + 10
    while left := alive(running.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert extract(album, "a.zarr") == 3
    assert extract(album, "alone.zarr") == 3
    assert file_contents(Store.open(album / "a.zarr")) == file_contents(
        Store.open(album / "alone.zarr")
    )
