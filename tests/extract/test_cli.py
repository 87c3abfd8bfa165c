"""`epalm-extract` from its options to the store, on a folder of good and broken images."""

import json
import shlex
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from PIL import Image

from epalm import precision
from epalm.cache.records.extraction_log import read_extraction_log
from epalm.cache.store import Store
from epalm.extract.encoders.encoder_registry import EncoderSettings, last_cls_tokens, make_encoder
from epalm.extract.planning import extraction_plan
from tests.extract.helpers import (
    TINY,
    Command,
    Outcome,
    random_model,
    run_command,
    save_photo,
    save_weights,
    tree_bytes,
)

GOOD, BROKEN = (
    68,
    {
        "cut.jpg": "damaged or truncated",
        "text.jpg": "not a supported image",
        "gone.jpg": "no such file",
    },
)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPALM_DATA_ROOT", raising=False)
    monkeypatch.setattr(extraction_plan, "fit_shard_rows", lambda count, row_bytes: 64)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_weights(random_model("test_vit", num_classes=3), tmp_path / "w.safetensors")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A manifest with two captions for each of 68 good and 3 broken images."""
    folder = tmp_path / "album"
    folder.mkdir()
    names = [f"{number}.png" for number in range(GOOD)]
    for number, name in enumerate(names):
        save_photo(folder / name, width=20 + number % 7, height=20, seed=number)
    save_photo(folder / "cut.jpg", width=300, height=300)
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:2000])
    (folder / "text.jpg").write_text("no photo")
    names[10:10], names[66:66] = ["cut.jpg", "gone.jpg"], ["text.jpg"]
    lines = [
        json.dumps({"id": f"{name}#{copy}", "media": name, "answers": ["a b"]})
        for copy in range(2)
        for name in names
    ]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def command(
    weights: Path,
    album: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs epalm-extract over the album with the tiny encoder, plus the given options."""

    def run(*options: str, bare: bool = False) -> Outcome:
        usual = ["--encoder", TINY, "--weights", str(weights), "--dataset", str(album)]
        usual += ["--workers", "0", "--batch-size", "16"]
        return run_command(monkeypatch, capsys, *([] if bare else usual), *options)

    return run


def cls(path: Path) -> np.ndarray:
    array = zarr.open_group(path, mode="r")["cls"]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def test_broken_images_are_counted_listed_and_give_exit_code_3(command: Command) -> None:
    done = command("--out", "a.zarr")
    assert done.code == 3
    assert "a.zarr: 71 images" in done.out
    assert "3 of 71 images could not be encoded" in done.err
    for name, reason in BROKEN.items():
        assert any(name in line and reason in line for line in done.err.splitlines()), name
    assert str(Path("a.zarr/epalm/errors.jsonl")) in done.err


@pytest.mark.parametrize("encoder", ["epalm.demo.encoder:micro_vit", TINY])
def test_the_command_that_is_printed_for_failed_samples_works(
    command: Command, weights: Path, encoder: str
) -> None:
    """An encoder that is code must be given again, since a store may not name code."""
    Path("few").mkdir()
    save_photo(Path("few/a.png"))
    Path("few/b.png").write_bytes(b"no photo")
    own = ["--weights", str(weights)] if encoder == TINY else []
    words = ["--encoder", encoder, "--dataset", "few", "--workers", "0", "--allow-outside", *own]
    failed = command(*words, "--out", "my store.zarr", bare=True)
    assert failed.code == 3
    save_photo(Path("few/b.png"), seed=1)
    printed = shlex.split(failed.err.split("fix the files and run `")[1].split("`")[0])
    given = [] if encoder == TINY else ["--encoder", encoder]
    assert printed == ["epalm-extract", "retry-failed", "my store.zarr", *given, "--allow-outside"]
    assert command(*printed[1:], bare=True).code == 0
    assert not Store.open("my store.zarr").failed_samples()


def test_each_row_has_the_encoders_tokens_of_its_own_image(
    command: Command, weights: Path, album: Path
) -> None:
    command("--out", "a.zarr", "--preprocessing", "paper")
    rows = cls(Path("a.zarr"))
    keys = [str(key) for key in zarr.open_group("a.zarr", mode="r")["keys"][:]]
    encoder = make_encoder(TINY, EncoderSettings(weights=weights))
    for row in (0, 9, 12, 70):
        photo = Image.open(album / keys[row]).resize((160, 160), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            expected = last_cls_tokens(encoder.blocks(pixels), encoder.norm)[0].numpy()
        np.testing.assert_allclose(rows[row, 0], expected, rtol=1e-3, atol=1e-3)
    assert sorted(keys[row] for row in np.flatnonzero(np.isnan(rows).any(axis=(1, 2, 3)))) == [
        "cut.jpg",
        "gone.jpg",
        "text.jpg",
    ]


def test_the_extraction_log_is_deleted_with_the_store(
    command: Command,
) -> None:
    command("--out", "a.zarr")
    command("--out", "a.zarr")  # finds nothing to do
    first = read_extraction_log("a.zarr")
    assert first is not None
    assert (first.encoded, first.device, first.device_memory) == (71, "cpu", 0)
    assert first.seconds > 0
    assert first.memory > 100_000_000  # torch alone takes more
    command("--out", "a.zarr", "--fresh", "--limit", "5")
    again = read_extraction_log("a.zarr")
    assert again is not None
    assert again.encoded == 5


def test_a_lost_commit_record_is_resumed_to_identical_bytes(command: Command) -> None:
    command("--out", "a.zarr")
    before = tree_bytes(Path("a.zarr"))
    Path("a.zarr/epalm/done/00001.json").unlink()
    done = command("--out", "a.zarr")
    assert done.code == 3
    assert "tried 7 in" in done.out
    assert tree_bytes(Path("a.zarr")) == before


def test_the_same_command_again_finds_nothing_to_do(command: Command) -> None:
    command("--out", "a.zarr", "--limit", "5")
    assert "nothing to do" in command("--out", "a.zarr", "--limit", "5").out


def test_other_settings_for_the_same_store_end_with_exit_code_4(command: Command) -> None:
    command("--out", "a.zarr", "--limit", "5")
    done = command("--out", "a.zarr", "--limit", "5", "--preprocessing", "paper")
    assert done.code == 4
    assert "fingerprint.preprocessing.name is native, expected official" in done.err
    assert "--fresh" in done.err


def test_a_store_of_another_default_is_resumed_by_the_same_command(command: Command) -> None:
    """As stores of earlier versions, whose default was the paper's preprocessing."""
    command("--out", "a.zarr", "--preprocessing", "official")
    before = tree_bytes(Path("a.zarr"))
    Path("a.zarr/epalm/done/00001.json").unlink()
    done = command("--out", "a.zarr")
    assert "--preprocessing paper, as in the store" in done.err
    assert "tried 7 in" in done.out
    assert tree_bytes(Path("a.zarr")) == before


def test_fresh_starts_over(command: Command) -> None:
    command("--out", "a.zarr", "--limit", "5")
    done = command("--out", "a.zarr", "--limit", "5", "--preprocessing", "paper", "--fresh")
    assert (done.code, "encoded 5 in" in done.out) == (0, True)


def test_fresh_deletes_nothing_but_feature_stores(command: Command, album: Path) -> None:
    album.rename("mine.zarr")
    done = command("--dataset", "mine.zarr", "--out", "mine.zarr", "--fresh")
    assert done.code == 1
    assert "--fresh deletes only feature stores" in done.err
    assert Path("mine.zarr/0.png").is_file()


def test_a_store_has_to_say_its_format(command: Command) -> None:
    done = command("--out", "features")
    assert (done.code, done.out) == (2, "")
    assert "features ends in none of .zarr, .h5, .hdf5" in done.err


def test_a_dry_run_prints_the_estimate_and_writes_nothing(command: Command) -> None:
    done = command("--dry-run")
    assert done.code == 0
    assert "would write cache/album_timmtestvit.zarr: 71 images" in done.out
    assert "(71, 1, 6, 64) float16, 54.5 kB, 2 shards, about" in done.out
    assert not Path("cache").exists()


def test_json_results_can_be_read_by_a_program(command: Command) -> None:
    estimate = json.loads(command("--dry-run", "--json", "--quiet").out)
    assert (estimate["records"], estimate["bytes"]) == (71, 71 * 6 * 64 * 2)
    report = json.loads(command("--json", "--quiet", "--out", "a.zarr", "--limit", "12").out)
    assert (report["store"], report["encoded"], report["failed"]) == ("a.zarr", 12, 2)


def test_chosen_layers_in_float32_hold_those_blocks(command: Command) -> None:
    command("--out", "a.zarr", "--limit", "4", "--dtype", "float32")
    command("--out", "b.zarr", "--limit", "4", "--dtype", "float32", "--source-layers", "last-2")
    six, two = cls(Path("a.zarr")), cls(Path("b.zarr"))
    assert (six.dtype, two.shape) == (np.float32, (4, 1, 2, 64))
    assert np.array_equal(two, six[:, :, 4:])
    command("--out", "c.zarr", "--limit", "4", "--dtype", "float32", "--source-layers", "5,0")
    assert np.array_equal(cls(Path("c.zarr")), six[:, :, [0, 5]])


def test_the_preprocessing_is_printed_unless_quiet(command: Command) -> None:
    assert "preprocessing: name native" in command("--out", "a.zarr", "--limit", "4").err
    assert command("--out", "b.zarr", "--limit", "4", "--quiet").err == ""


def test_another_image_size_has_a_store_of_its_own(command: Command) -> None:
    done = command("--limit", "4", "--image-size", "96")
    assert "96 pixels in place of 160" in done.err
    fingerprint = Store.open("cache/album_timmtestvit_96px_first4.zarr").spec.fingerprint
    assert fingerprint["preprocessing.size"] == "96"
    assert command("--limit", "4", "--image-size", "99").code == 2


def test_more_layers_than_blocks_is_a_usage_error(command: Command) -> None:
    done = command("--source-layers", "last-7")
    assert (done.code, "there are 6 blocks" in done.err) == (2, True)


@pytest.mark.parametrize("device", ["toaster", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_a_usage_error(device: str, command: Command) -> None:
    done = command("--device", device, "--out", "a.zarr")
    assert done.code == 2
    assert f"--device {device} cannot be used" in done.err


def test_encoder_and_dataset_are_needed(command: Command) -> None:
    done = command("--encoder", "vit-b16", bare=True)
    assert (done.code, "--dataset coco" in done.err) == (2, True)


def test_samples_of_another_modality_are_a_usage_error(command: Command, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").touch()
    line = '{"id": "1", "media": "a.mp4", "answers": ["b"]}\n'
    (tmp_path / "clips/train.jsonl").write_text(line)
    done = command("--dataset", str(tmp_path / "clips"))
    assert done.code == 2
    assert "encodes images: with --frames-pool mean" in done.err


def test_a_wrong_data_root_is_found_before_anything_is_written(
    command: Command, album: Path
) -> None:
    for photo in album.glob("*.*g"):
        photo.unlink()
    done = command("--out", "a.zarr")
    assert done.code == 1
    assert "none of the first 71 media files exists" in done.err
    assert "--data-root" in done.err
    assert not Path("a.zarr").exists()


def test_a_termination_signal_stops_with_exit_code_75(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminate(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("epalm.extract.run_extraction.encode", terminate)
    done = command("--out", "a.zarr")
    assert done.code == 75
    assert "stopped with 2 of 2 shards to do" in done.err


def test_formats_hold_the_same_rows(command: Command) -> None:
    command("--out", "a.zarr")
    assert command("--format", "hdf5").code == 3
    with h5py.File("cache/album_timmtestvit.h5", "r") as file:
        assert np.array_equal(file["cls"][:], cls(Path("a.zarr")), equal_nan=True)


def test_a_format_that_contradicts_the_path_is_a_usage_error(command: Command) -> None:
    done = command("--out", "a.zarr", "--format", "hdf5")
    assert (done.code, "--format hdf5 contradicts the suffix" in done.err) == (2, True)


def test_the_first_view_of_many_is_the_only_view_of_one(command: Command) -> None:
    command("--out", "one.zarr", "--limit", "9")
    command("--out", "many.zarr", "--limit", "9", "--views", "3")
    one, many = cls(Path("one.zarr")), cls(Path("many.zarr"))
    assert many.shape == (9, 3, 6, 64)
    np.testing.assert_allclose(many[:, :1], one, rtol=1e-3, atol=1e-3)
    assert not np.array_equal(many[:, 1], many[:, 2])


def test_views_of_another_seed_are_another_store(command: Command) -> None:
    command("--out", "a.zarr", "--limit", "5", "--views", "2")
    done = command("--out", "a.zarr", "--limit", "5", "--views", "2", "--seed", "1")
    assert done.code == 4
    assert "fingerprint.views.seed is 0, expected 1" in done.err


def test_two_processes_write_the_store_of_one_process(command: Command) -> None:
    command("--out", "alone.zarr")
    first = command("--out", "a.zarr", "--shard", "0/2")
    assert "1 of 2 shards are left to other processes" in first.out
    command("--out", "a.zarr", "--shard", "1/2")
    assert tree_bytes(Path("a.zarr")) == tree_bytes(Path("alone.zarr"))


def test_a_benchmark_times_each_stage_and_leaves_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epalm.extract.estimate.stage_timing.SECONDS", 0.2)
    done = command("--benchmark", "--json", "--quiet")
    stages = {stage["name"]: stage for stage in json.loads(done.out)}
    assert list(stages) == ["decode", "transform", "encode", "write"]
    assert all(stage["seconds"] > 0 for stage in stages.values())
    assert {path.name for path in Path().iterdir()} == {"album", "w.safetensors"}
    assert "ms each" in command("--benchmark", "--quiet").out


def test_a_dry_run_says_after_how_many_epochs_a_store_saves_time(
    command: Command,
) -> None:
    done = command("--dry-run")
    assert "each epoch of manifest encodes 142 images" in done.out
    assert "a store saves time after 0.50 epochs" in done.out


def test_a_measured_dry_run_gives_requests_hours_and_prices(command: Command) -> None:
    words = ("--dry-run", "--measure", "1", "--price-per-hour", "3.6", "--workers", "1")
    done = command(*words)
    assert "16 objects; in an object store 16 PUT, 21 HEAD, 4 GET and 8 LIST requests" in done.out
    assert "that decode)" in done.out
    assert "T4" in done.out
    result = json.loads(command(*words, "--json", "--quiet").out)
    assert result["objects"] == 16
    # 3.60 per hour is 0.001 per second
    assert result["per_million"] == pytest.approx(1000 / result["per_second"], rel=0.01)
    assert result["measurement"]["measured"] is True
    assert {gpu["gpu"] for gpu in result["gpus"]} >= {"A100", "H100 SXM"}
    assert {path.name for path in Path().iterdir()} == {"album", "w.safetensors"}
    refused = command("--measure", "5")
    assert (refused.code, refused.out) == (2, "")
    assert "--measure is an option of --dry-run" in refused.err


@pytest.mark.parametrize("option", ["--engine-workers", "--gpus-per-worker", "--cpus-per-worker"])
def test_an_option_of_an_engine_without_one_is_refused(command: Command, option: str) -> None:
    refused = command(option, "1")
    assert (refused.code, refused.out) == (2, "")
    assert f"{option} is an option of --engine: add --engine ray" in refused.err
    assert {path.name for path in Path().iterdir()} == {"album", "w.safetensors"}


@pytest.mark.parametrize("recorded", ["fp32", "bf16"])
def test_a_resumed_store_keeps_its_precision_whatever_the_machine_prefers(
    command: Command, monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    command("--out", "a.zarr", "--precision", recorded, "--limit", "3")
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: recorded == "fp32")
    before = tree_bytes(Path("a.zarr"))
    again = command("--out", "a.zarr", "--limit", "3")
    assert again.code == 0
    assert f"precision {recorded}, as recorded in a.zarr" in again.err
    assert tree_bytes(Path("a.zarr")) == before


def test_a_new_store_has_the_precision_of_the_machine_and_fresh_discards_the_old_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("--out", "a.zarr", "--precision", "fp32", "--limit", "3")
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    done = command("--out", "a.zarr", "--limit", "3", "--fresh")
    assert "precision bf16, chosen for cpu" in done.err
    assert "slow" not in done.err
    assert Store.open("a.zarr").spec.fingerprint["precision"] == "bf16"
    refused = command("--out", "a.zarr", "--limit", "3", "--precision", "fp32")
    assert refused.code == 4
    assert "fingerprint.precision is bf16, expected fp32" in refused.err


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_slow_precision_is_extracted_in_with_one_warning_that_names_fp32(
    command: Command, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    done = command("--out", "a.zarr", "--limit", "3", "--precision", asked, "--quiet")
    assert done.code == 0
    assert done.err.count("slow") == done.err.count("fp32") == 1
    exact = command("--out", "b.zarr", "--limit", "3", "--precision", "fp32", "--quiet")
    assert exact.err == ""
    rounded = cls(Path("a.zarr")).astype(float)
    np.testing.assert_allclose(rounded, cls(Path("b.zarr")).astype(float), atol=0.1)
    assert (rounded != cls(Path("b.zarr"))).any()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_samples_encoded_although_incomplete_are_reported_and_listed(
    workers: str, command: Command, album: Path, tmp_path: Path
) -> None:
    for name in ("3.png", "9.png"):
        save_photo(album / "whole.jpg", width=64, height=64)
        (album / name).write_bytes((album / "whole.jpg").read_bytes()[:-2])
    done = command("--out", "a.zarr", "--views", "2", "--workers", workers)
    notes = [
        f"{name}: damaged or truncated, 64 of 64 rows can be decoded" for name in ("3.png", "9.png")
    ]
    listed = tmp_path / "a.zarr.incomplete.txt"
    assert sorted(listed.read_text().splitlines()) == notes
    assert "encoded although damaged or cut off: 2, e.g." in done.err
    assert notes[0] in done.err
    assert "a.zarr.incomplete.txt" in done.err
    assert not {"3.png", "9.png"} & Store.open("a.zarr").failed_samples().keys()
    command("--out", "a.zarr", "--fresh", "--limit", "3")
    assert not listed.exists()


@pytest.mark.parametrize("option", ["--workers", "--batch-size"])
def test_a_million_times_a_million_is_out_of_range(option: str, command: Command) -> None:
    """A million decoding processes would be started one after the other."""
    done = command(option, str(10**12))
    assert done.code == 2
    assert f"Invalid value for '{option}'" in done.err


@pytest.mark.parametrize("seed", ["-1", str(10**12 + 1), str(2**63)])
def test_a_seed_of_views_has_the_range_of_every_seed(seed: str, command: Command) -> None:
    done = command("--seed", seed)
    assert done.code == 2
    assert f"{seed} is not in the range 0<=x<=1000000000000" in done.err
