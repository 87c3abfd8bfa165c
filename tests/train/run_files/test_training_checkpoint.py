"""Adapter and checkpoint: nothing is ever loaded wrong."""

import json
import os
import pickle
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from epalm.errors import DataError, MissingFileError, RunFolderError, TrainingError
from epalm.model.checkpoints.adapter_io import load_adapter, save_adapter
from epalm.model.checkpoints.run_record import METRICS_FILE
from epalm.model.checkpoints.tensor_file import read_tensors, write_tensors
from epalm.model.epalm import trainable_parameters
from epalm.train.run_files.metrics_log import MetricsLog
from epalm.train.run_files.training_checkpoint import (
    EARLIER_STATE_FILE,
    STATE_FILE,
    Progress,
    check_finite,
    load_state,
    save_state,
)
from tests.train.run_files.tiny import make, same, state

PROGRESS = Progress(step=7, validated=2, best_score=0.5, best_epoch=1, seconds=3.5)


def write_earlier(folder: Path) -> dict[str, torch.Tensor]:
    """A checkpoint as version 0.0 wrote it."""
    model, optimizer = make(seed=1)
    weights = {name: weight.detach() for name, weight in trainable_parameters(model)}
    kept = {"weights": weights, "optimizer": optimizer.state_dict(), "progress": vars(PROGRESS)}
    torch.save(kept, folder / EARLIER_STATE_FILE)
    return state(model, optimizer)


def test_a_checkpoint_restores_everything(tmp_path: Path) -> None:
    first = make(seed=1)
    save_state(tmp_path, *first, PROGRESS)
    second = make(seed=2, steps=0)
    assert load_state(tmp_path, *second) == PROGRESS
    assert same(state(*second), state(*first))


def test_a_checkpoint_before_any_validation_restores_minus_infinity(tmp_path: Path) -> None:
    save_state(tmp_path, *make(steps=0), Progress(step=3))
    assert load_state(tmp_path, *make()) == Progress(step=3)


def test_nothing_to_restore_is_a_fresh_start(tmp_path: Path) -> None:
    assert load_state(tmp_path, *make()) == Progress()


def test_a_checkpoint_of_an_earlier_version_loads_with_a_note_and_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = write_earlier(tmp_path)
    second = make(seed=2, steps=0)
    caplog.set_level("INFO")
    assert load_state(tmp_path, *second) == PROGRESS
    assert same(state(*second), expected)
    assert "last.pt has no checksum: it was written by an earlier version" in caplog.text
    save_state(tmp_path, *second, PROGRESS)
    assert {file.name for file in tmp_path.iterdir()} == {STATE_FILE, "last.safetensors"}


def test_an_adapter_of_an_earlier_version_loads_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (model, _), (other, _) = make(seed=1), make(seed=2)
    file = tmp_path / "adapter.safetensors"
    save_file({name: weight.detach() for name, weight in trainable_parameters(model)}, file)
    caplog.set_level("INFO")
    load_adapter(other, file)
    expected = dict(trainable_parameters(model))
    assert all(torch.equal(weight, expected[name]) for name, weight in trainable_parameters(other))
    assert "has no checksum" in caplog.text


class Shell:
    """What a stranger's pickle may hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_strangers_checkpoint_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kept in (Shell(), {"weights": {}, "optimizer": Shell(), "progress": {}}):
        torch.save(kept, tmp_path / EARLIER_STATE_FILE)
        with pytest.raises(RunFolderError, match=r"cannot be resumed.*start over with --fresh"):
            load_state(tmp_path, *make())
        (tmp_path / EARLIER_STATE_FILE).write_bytes(pickle.dumps(kept))
        with pytest.raises(RunFolderError, match="cannot be resumed"):
            load_state(tmp_path, *make())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("earlier", [False, True])
def test_contents_that_are_no_checkpoint_are_one_error(tmp_path: Path, *, earlier: bool) -> None:
    file = tmp_path / (EARLIER_STATE_FILE if earlier else STATE_FILE)
    for data in (b"", b"\0" * 8, b"\xff" * 100, b"<html>not found</html>", b"\x80\x04."):
        file.write_bytes(data)
        with pytest.raises(RunFolderError, match=rf"{file.name}.*start over with --fresh"):
            load_state(tmp_path, *make())
    for kept in (5, [], {"weights": 5}, {"weights": {}, "optimizer": {"state": {99: {}}}}):
        torch.save(kept, tmp_path / EARLIER_STATE_FILE)
        (tmp_path / STATE_FILE).unlink(missing_ok=True)
        with pytest.raises(RunFolderError, match="cannot be resumed"):
            load_state(tmp_path, *make())


@pytest.mark.parametrize(
    "progress",
    [
        "",
        "5",
        "[]",
        '{"step": "7"}',
        '{"step": -1}',
        '{"best_score": NaN}',
        "[" * 9999,
    ],
)
def test_progress_that_cannot_be_is_refused(tmp_path: Path, progress: str) -> None:
    save_state(tmp_path, *make(), PROGRESS)
    read = read_tensors(tmp_path / STATE_FILE)
    write_tensors(tmp_path / STATE_FILE, read.tensors, notes={"progress": progress})
    with pytest.raises(RunFolderError, match="does not record a run's progress"):
        load_state(tmp_path, *make())


Change = Callable[[dict[str, torch.Tensor]], object]

WRONG: dict[str, tuple[Change, str]] = {
    "missing": (lambda kept: kept.pop("second"), "it lacks .*connectors.maps.0.bias"),
    "unexpected": (lambda kept: kept.update(other=torch.ones(1)), "has unexpected other"),
    "shape": (lambda kept: kept.update(first=torch.ones(2, 3)), r"is \(2, 3\) float32, expected"),
    "type": (lambda kept: kept.update(first=kept["first"].double()), "float64, expected"),
    "nan": (lambda kept: kept["first"].fill_(float("nan")), "has values that are not finite"),
}


def spoil(file: Path, names: dict[str, str], change: Change) -> None:
    """Rewrite a file; `change` knows the tensors of `names` by their short names."""
    read = read_tensors(file)
    tensors = {short: read.tensors.pop(name) for short, name in names.items()}
    change(tensors)
    renamed = {names.get(short, short): tensor for short, tensor in tensors.items()}
    write_tensors(file, read.tensors | renamed, notes=read.notes)


@pytest.mark.parametrize("kind", WRONG)
def test_tensors_are_loaded_strictly_by_name(tmp_path: Path, kind: str) -> None:
    change, words = WRONG[kind]
    model, optimizer = make()
    first, second = [name for name, _ in trainable_parameters(model)][:2]
    adapter = tmp_path / "adapter.safetensors"
    save_adapter(model, adapter)
    save_state(tmp_path, model, optimizer, PROGRESS)
    spoil(adapter, {"first": first, "second": second}, change)
    names = {"first": f"weights/{first}", "second": f"weights/{second}"}
    spoil(tmp_path / STATE_FILE, names, change)
    other = make(seed=4)
    before = state(*other)
    with pytest.raises(DataError, match=words):
        load_adapter(other[0], adapter)
    with pytest.raises(RunFolderError, match=words):
        load_state(tmp_path, *other)
    assert same(state(*other), before)


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(data: bytes, count: int, seed: int) -> list[bytes]:
    """The data with one bit flipped: places all over the file, the header densely."""
    head = 8 * (8 + int.from_bytes(data[:8], "little"))
    draw = random.Random(seed)
    bits = [draw.randrange(head) for _ in range(count // 2)]
    bits += [draw.randrange(8 * len(data)) for _ in range(count - len(bits))]
    return [flip(data, bit) for bit in bits]


def survived(file: Path, damaged: list[bytes], load: Callable[[], object]) -> int:
    count = 0
    for data in damaged:
        file.write_bytes(data)
        try:
            load()
        except (DataError, RunFolderError):
            continue
        count += 1
    return count


@pytest.mark.parametrize(
    "count", [100, pytest.param(3000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_no_flipped_bit_is_ever_loaded(tmp_path: Path, count: int) -> None:
    model, optimizer = make(seed=1)
    adapter, checkpoint = tmp_path / "adapter.safetensors", tmp_path / STATE_FILE
    save_adapter(model, adapter)
    save_state(tmp_path, model, optimizer, PROGRESS)
    other = make(seed=2)
    before = state(*other)
    damaged = flips(adapter.read_bytes(), count, seed=1)
    assert survived(adapter, damaged, lambda: load_adapter(other[0], adapter)) == 0
    damaged = flips(checkpoint.read_bytes(), count, seed=2)
    assert survived(checkpoint, damaged, lambda: load_state(tmp_path, *other)) == 0
    assert same(state(*other), before)


@pytest.mark.slow
def test_no_bit_of_a_header_can_be_flipped(tmp_path: Path) -> None:
    model, _ = make(seed=1)
    file = tmp_path / "adapter.safetensors"
    save_adapter(model, file)
    data = file.read_bytes()
    bits = range(8 * (8 + int.from_bytes(data[:8], "little")))
    assert survived(file, [flip(data, bit) for bit in bits], lambda: load_adapter(model, file)) == 0


def test_a_cut_or_longer_file_is_refused(tmp_path: Path) -> None:
    model, _ = make()
    file = tmp_path / "adapter.safetensors"
    save_adapter(model, file)
    data = file.read_bytes()
    cut = [data[:size] for size in (0, 4, 8, 60, len(data) // 2, len(data) - 1)]
    assert survived(file, [*cut, data + b"\0"], lambda: load_adapter(model, file)) == 0
    file.write_bytes(data)
    load_adapter(model, file)
    file.unlink()
    with pytest.raises(MissingFileError):
        load_adapter(model, file)


def test_others_read_our_files_and_the_umask_decides_who_may(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.zeros(()), "c": torch.ones(0, 4)}
    file = tmp_path / "a.safetensors"
    before = os.umask(0o027)
    try:
        write_tensors(
            file, tensors, notes={"epalm": "crc32c 1", "more": '"epalm":"crc32c 12345678'}
        )
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_file(file).items())
    assert read_tensors(file).notes["more"] == '"epalm":"crc32c 12345678'
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors"}


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_tensors(
            tmp_path / name, {"x": torch.ones(1), "a": torch.ones(1)}, notes={"n": "1", "m": "2"}
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_larger_than_a_block_is_checked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"a": torch.arange(1000.0)})
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr("epalm.model.checkpoints.tensor_file._BLOCK_BYTES", size)
        assert torch.equal(read_tensors(file).tensors["a"], torch.arange(1000.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["weight", "average"])
def test_what_is_not_finite_is_not_saved(value: float, part: str) -> None:
    model, optimizer = make()
    weight = optimizer.param_groups[0]["params"][-1]
    with torch.no_grad():
        (weight if part == "weight" else optimizer.state[weight]["exp_avg"]).view(-1)[-1] = value
    name = "weights/" if part == "weight" else "exp_avg/"
    with pytest.raises(TrainingError, match=rf"^{name}\S+ is not finite after step 7: lower lr"):
        check_finite(model, optimizer, step=7)


LINES = [
    '{"kind": "train", "step": 7}',
    '{"kind": "val", "epoch": 2, "step": 9}',
    '{"kind": "train", "step": 8}',
    '{"kind": "val", "epoch": 3, "step": 7}',
]


def test_lines_after_the_checkpoint_and_a_half_line_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / METRICS_FILE
    file.write_text("\n".join([*LINES, '{"kind": "tra']))
    MetricsLog(tmp_path, PROGRESS).append(kind="train", step=8)
    assert file.read_text().splitlines() == [*LINES[:2], json.dumps({"kind": "train", "step": 8})]


@pytest.mark.parametrize(
    "line",
    [b"5", b"[]", b"{}", b'{"kind": "val"}', b'{"kind": 1, "step": "x"}', b"\xff", b"[" * 9999],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / METRICS_FILE).write_bytes(LINES[0].encode() + b"\n" + line + b"\n")
    with pytest.raises(RunFolderError, match=r"metrics.jsonl, line \d: .*remove the line"):
        MetricsLog(tmp_path, PROGRESS)
