"""The subcommands that work on an existing store."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.store import Store
from epalm.extract.planning import extraction_plan
from epalm.extract.store_commands.store_cli import as_ranges
from tests.cache.helpers import BROKEN, KEYS, file_contents, finished_store
from tests.extract.helpers import TINY, Command, random_model, run_command, save_photo, save_weights


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return partial(run_command, monkeypatch, capsys)


@pytest.fixture(params=["s.zarr", "s.h5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return finished_store(tmp_path / request.param)


def flip(store: Store, name: str) -> None:
    data = bytearray(store.storage.read(name))
    data[len(data) // 3] ^= 16
    store.storage.put(name, [bytes(data)])


def test_verify_of_an_intact_store_succeeds(store: Store, command: Command) -> None:
    assert command("verify", store.location).out.endswith(
        "every size matches (--deep computes checksums)\n"
    )
    done = command("verify", store.location, "--deep")
    assert (done.code, done.out) == (0, f"{store.location}: every checksum matches\n")


def test_changes_of_media_files_are_unknown_for_an_older_store(
    store: Store, command: Command
) -> None:
    done = command("verify", "--media", store.location)
    assert done.code == 3
    assert "unknown whether 150 media files changed" in done.out
    assert "unknown whether media files changed" in command("inspect", store.location).out


def test_damage_is_named_repaired_and_gone(store: Store, command: Command) -> None:
    damaged = store.format.shard_files(1)[0]
    flip(store, damaged)
    assert command("verify", store.location).code == 0
    done = command("verify", store.location, "--deep")
    assert done.code == 1
    assert f"{damaged} has CRC-32C" in done.out
    assert f"1 damaged file: run `epalm-extract repair {store.location}`" in done.out
    assert f"{damaged} has CRC-32C" in command("repair", store.location).out
    done = command("verify", store.location, "--deep")
    assert (done.code, "but 1 shard missing" in done.out) == (3, True)
    assert command("repair", store.location).out.endswith("nothing to repair\n")


def test_verify_for_programs(store: Store, command: Command) -> None:
    flip(store, store.commit_record_name(2))
    actual = json.loads(command("verify", store.location, "--json").out)
    assert [problem["name"] for problem in actual["problems"]] == [store.commit_record_name(2)]


def test_status_counts_and_lists_what_is_missing(store: Store, command: Command) -> None:
    done = command("status", store.location)
    assert (done.code, "3 of 3 shards, 150 of 150 records, 1 of them failed" in done.out) == (
        0,
        True,
    )
    store.storage.delete([store.commit_record_name(0), store.commit_record_name(2)])
    done = command("status", store.location)
    assert (done.code, "1 of 3 shards, 64 of 150 records" in done.out) == (3, True)
    assert command("status", store.location, "--missing") == (3, "0,2\n", "")
    assert json.loads(command("status", store.location, "--json").out)["missing"] == [0, 2]


def test_missing_shards_are_written_as_sbatch_takes_them() -> None:
    assert as_ranges([]) == ""
    assert as_ranges([4]) == "4"
    assert as_ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


def test_inspect_shows_settings_counts_and_rows(store: Store, command: Command) -> None:
    shown = command("inspect", store.location, "--rows", "2").out
    for words in ("fingerprint.weights", "aa", "vit-b16", "failed records", KEYS[1]):
        assert words in shown
    actual = json.loads(command("inspect", store.location, "--json").out)
    assert (actual["bytes"], actual["failed"], actual["shards"]) == (150 * 2 * 4 * 2, 1, 3)
    rows = np.empty((64, 1, 2, 4), np.float16)
    store.read_shard(0, rows)
    lengths = np.sqrt((rows[3, 0].astype(np.float64) ** 2).sum(axis=-1))
    np.testing.assert_allclose(actual["rows"][3]["norms"], lengths)


def test_convert_writes_the_other_format(store: Store, command: Command, tmp_path: Path) -> None:
    other = tmp_path / ("copy.h5" if store.location.endswith("zarr") else "copy.zarr")
    done = command("convert", store.location, "--out", other, "--source-layers", "1", "--quiet")
    assert (done.code, done.out) == (0, f"{other}: (150, 1, 1, 4) float16, 1.2 kB\n")
    assert Store.open(other).failed_samples() == {BROKEN: "truncated"}
    assert command("convert", store.location, "--out", other, "--source-layers", "one").code == 2


@pytest.mark.parametrize("name", ["verify", "status", "repair", "inspect", "retry-failed"])
def test_nothing_there_is_one_line(name: str, command: Command, tmp_path: Path) -> None:
    done = command(name, tmp_path / "none.zarr")
    assert done.code == 1
    assert "found nothing at" in done.err


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """70 images in two shards with one broken image each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extraction_plan, "fit_shard_rows", lambda count, row_bytes: 64)
    folder = tmp_path / "album"
    folder.mkdir()
    names = [f"{number}.png" for number in range(70)]
    for number, name in enumerate(names):
        save_photo(folder / name, seed=number)
    lines = [json.dumps({"id": name, "media": name, "answers": ["a"]}) for name in names]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    yield folder


def test_only_failed_images_are_encoded_again(
    album: Path, command: Command, tmp_path: Path
) -> None:
    save_weights(random_model("test_vit", num_classes=3), tmp_path / "w.safetensors")
    usual = ["--encoder", TINY, "--weights", "w.safetensors", "--dataset", "album"]
    usual += ["--workers", "0", "--batch-size", "16", "--quiet", "--image-size", "96"]
    command(*usual, "--out", "whole.zarr")
    whole = np.empty((64, 1, 6, 64), np.float16)
    Store.open("whole.zarr").read_shard(0, whole)
    kept = {name: (album / name).read_bytes() for name in ("7.png", "69.png")}
    for name in kept:
        (album / name).write_text("broken")
    assert command(*usual, "--out", "a.zarr").code == 3
    (album / "7.png").write_bytes(kept["7.png"])
    before = np.empty_like(whole)
    Store.open("a.zarr").read_shard(0, before)
    done = command("retry-failed", "a.zarr", "--quiet")
    assert (done.code, done.out) == (3, "a.zarr: 1 of 2 failed samples encoded\n")
    assert "69.png: not a supported image" in done.err.replace("69.png: 69.png", "69.png")
    after = np.empty_like(whole)
    Store.open("a.zarr").read_shard(0, after)
    np.testing.assert_allclose(after[7], whole[7], rtol=1e-3, atol=1e-3)
    others = np.arange(64) != 7
    assert np.array_equal(after[others], before[others])
    assert command("verify", "a.zarr", "--deep").code == 0
    done = command("retry-failed", "a.zarr", "--quiet", "--json")
    tried = json.loads(done.out)
    assert (done.code, tried["store"], tried["tried"], tried["encoded"]) == (3, "a.zarr", 1, 0)
    assert "not a supported image" in tried["failed"]["69.png"]
    (album / "69.png").write_bytes(kept["69.png"])
    assert command("retry-failed", "a.zarr", "--quiet").code == 0
    assert file_contents(Store.open("a.zarr"))["epalm/errors.jsonl"] == b""
    assert command("retry-failed", "a.zarr", "--quiet").out == (
        "a.zarr: 0 of 0 failed samples encoded\n"
    )


def test_failed_images_are_not_encoded_by_another_encoder(
    album: Path, command: Command, tmp_path: Path
) -> None:
    save_weights(random_model("test_vit", num_classes=3), tmp_path / "w.safetensors")
    save_weights(random_model("test_vit", num_classes=3, seed=1), tmp_path / "x.safetensors")
    (album / "7.png").write_text("broken")
    usual = ["--encoder", TINY, "--dataset", "album", "--workers", "0", "--quiet"]
    command(*usual, "--weights", "w.safetensors", "--out", "a.zarr")
    done = command("retry-failed", "a.zarr", "--weights", "x.safetensors", "--quiet")
    assert done.code == 4
    assert "fingerprint.weights_sha256 is" in done.err


def test_converted_and_missing_shards_for_programs(
    store: Store, command: Command, tmp_path: Path
) -> None:
    other = tmp_path / "copy.zarr"
    done = command("convert", store.location, "--out", other, "--json", "--quiet")
    assert json.loads(done.out) == {
        "store": str(other),
        "shape": [150, 1, 2, 4],
        "dtype": "float16",
        "bytes": 2400,
    }
    store.storage.delete([store.commit_record_name(1)])
    done = command("status", store.location, "--missing", "--json")
    assert (done.code, json.loads(done.out)["missing"]) == (3, [1])
    done = command("inspect", tmp_path / "none.zarr", "--json")
    assert json.loads(done.out)["error"]["exit_code"] == done.code == 1


@pytest.mark.parametrize("name", ["parquet", "safetensors"])
def test_export_writes_a_file_per_shard_and_resumes(
    store: Store, command: Command, tmp_path: Path, name: str
) -> None:
    words = ("export", store.location, "--format", name, "--out", tmp_path / "out")
    done = command(*words)
    assert done.code == 0
    assert done.out == (
        f"{tmp_path}/out: {name}, 150 records in 3 shards, 1 of them failed; 3 shards written\n"
    )
    files = sorted(path.name for path in (tmp_path / "out").glob(f"*.{name}"))
    assert files == [f"{shard:05d}.{name}" for shard in range(3)]
    report = json.loads(command(*words, "--json").out)
    counts = {"records": 150, "failed": 1, "shards": 3, "written": 0}
    assert report == {"out": f"{tmp_path}/out", "format": name} | counts
    refused = command("export", store.location, "--format", "csv", "--out", tmp_path / "out")
    assert refused.code == 2
    assert "'csv' is not one of" in refused.err
