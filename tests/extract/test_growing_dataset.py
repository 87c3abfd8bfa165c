"""`epalm-extract` on a dataset that has grown since the store was made."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from epalm.cache.maintenance.verify import verify_deep
from epalm.cache.store import Store
from epalm.extract.planning import extraction_plan
from tests.extract.helpers import (
    TINY,
    Outcome,
    random_model,
    run_command,
    save_photo,
    save_weights,
    tree_bytes,
)

Album = Callable[[Sequence[str]], None]
Extract = Callable[..., Outcome]

FIRST = [f"{number:02d}.png" for number in range(20)]
LATER = [f"{number:02d}.png" for number in range(20, 90)]


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPALM_DATA_ROOT", raising=False)
    monkeypatch.setattr(extraction_plan, "fit_shard_rows", lambda count, row_bytes: 64)


@pytest.fixture
def album(tmp_path: Path) -> Album:
    """Writes a manifest of the images with these names; "bad..." is no image."""
    folder = tmp_path / "album"
    folder.mkdir()

    def write(names: Sequence[str]) -> None:
        for name in names:
            if name.startswith("bad"):
                (folder / name).write_text("no image")
            elif not (folder / name).exists():
                seed = int(Path(name).stem)
                save_photo(folder / name, width=20 + seed % 7, height=20, seed=seed)
        lines = [json.dumps({"id": name, "media": name, "answers": ["a"]}) for name in names]
        (folder / "train.jsonl").write_text("\n".join(lines) + "\n")

    return write


@pytest.fixture
def extract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Extract:
    weights = save_weights(random_model("test_vit", num_classes=3), tmp_path / "w.safetensors")
    usual = ["--encoder", TINY, "--weights", weights, "--dataset", "album", "--workers", "0"]

    def run(*words: str, out: str = "s.zarr") -> Outcome:
        return run_command(monkeypatch, capsys, *usual, "--batch-size", "16", "--out", out, *words)

    return run


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    return lambda *words: run_command(monkeypatch, capsys, *words)


def features(path: str) -> dict[str, np.ndarray]:
    """Key -> (V, L, D), read with the library of the format."""
    if path.endswith(".zarr"):
        group = zarr.open_group(path, mode="r")
        keys, cls = np.asarray(group["keys"][:]).tolist(), np.asarray(group["cls"][:])  # type: ignore[index]
    else:
        with h5py.File(path) as main:
            keys, cls = main["keys"].asstr()[:].tolist(), main["cls"][:]
    return dict(zip(keys, cls, strict=True))


@pytest.mark.parametrize("out", ["s.zarr", "s.h5"])
def test_the_same_command_encodes_only_the_new_samples(
    album: Album, extract: Extract, out: str
) -> None:
    album(FIRST)
    assert extract(out=out).code == 0
    before = features(out)
    album([*LATER[:3], *FIRST, *LATER[3:]])
    done = extract(out=out)
    assert done.code == 0
    assert "70 samples of the dataset are new (20.png, 21.png, 22.png, ...)" in done.err
    assert "90 images" in done.out and "encoded 70 in" in done.out
    after = features(out)
    assert list(after) == [*FIRST, *LATER]
    assert all(np.array_equal(after[key], before[key]) for key in FIRST)
    extract("--fresh", out="fresh" + Path(out).suffix)
    at_once = features("fresh" + Path(out).suffix)
    assert at_once.keys() == after.keys()
    assert all(np.allclose(after[key], at_once[key], atol=2e-2) for key in after)
    assert "nothing to do" in extract(out=out).out
    assert not list(verify_deep(Store.open(out)))


def test_one_more_image_goes_into_the_last_shard(album: Album, extract: Extract) -> None:
    for count in range(18, 21):
        album(FIRST[:count])
        assert extract().code == 0
    assert list(features("s.zarr")) == FIRST
    assert len(list(Path("s.zarr/cls/c").iterdir())) == 1
    assert [path.name for path in Path("s.zarr/epalm/done").iterdir()] == ["00000-20.json"]


def test_a_dry_run_says_how_many_samples_are_new(album: Album, extract: Extract) -> None:
    album(FIRST)
    assert "would write s.zarr: 20 images" in extract("--dry-run").out
    extract()
    album([*FIRST, *LATER[:7]])
    before = tree_bytes(Path("s.zarr"))
    done = extract("--dry-run")
    assert "7 samples of the dataset are new" in done.err
    assert "would add 7 images to s.zarr, which then has 27 images" in done.out
    assert json.loads(extract("--dry-run", "--json").out)["new"] == 7
    assert tree_bytes(Path("s.zarr")) == before


def test_samples_that_are_gone_are_counted_and_kept(album: Album, extract: Extract) -> None:
    album(FIRST)
    extract()
    album([*FIRST[2:], *LATER[:1]])
    done = extract()
    assert done.code == 0
    assert "2 of its 20 samples are not in the dataset any more (00.png, 01.png)" in done.err
    assert list(features("s.zarr")) == [*FIRST, *LATER[:1]]


def test_another_dataset_is_not_mixed_in(album: Album, extract: Extract) -> None:
    album(FIRST)
    extract()
    before = tree_bytes(Path("s.zarr"))
    album([*FIRST[:3], *LATER])
    refused = extract()
    assert refused.code == 4
    assert (
        "the dataset lacks 17 of the 20 samples of s.zarr (03.png, 04.png, 05.png, ...)"
        in refused.err
    )
    assert extract("--dry-run").code == 4
    assert tree_bytes(Path("s.zarr")) == before
    assert extract("--changed-dataset", "grow").code == 0
    assert len(features("s.zarr")) == 90


def test_a_smaller_limit_is_refused_and_a_larger_one_adds(album: Album, extract: Extract) -> None:
    album(FIRST)
    extract("--limit", "10")
    assert extract("--limit", "5").code == 4
    assert extract("--limit", "15").code == 0
    assert list(features("s.zarr")) == FIRST[:15]


def test_refuse_keeps_the_store_as_it_is(album: Album, extract: Extract) -> None:
    album(FIRST)
    extract()
    album([*FIRST, *LATER])
    refused = extract("--changed-dataset", "refuse")
    assert refused.code == 4
    assert "70 are new, 0 of its 20 are absent" in refused.err


def test_other_settings_of_a_grown_dataset_are_refused(album: Album, extract: Extract) -> None:
    album(FIRST)
    extract()
    album([*FIRST, *LATER])
    refused = extract("--image-size", "96")
    assert refused.code == 4
    assert "preprocessing" in refused.err and "count" not in refused.err
    assert len(features("s.zarr")) == 20


def test_changed_files_are_encoded_again_while_the_store_grows(
    album: Album, extract: Extract, tmp_path: Path
) -> None:
    album([*FIRST, *LATER])
    extract()
    before = features("s.zarr")
    save_photo(tmp_path / "album/85.png", width=31, height=20, seed=1000)
    (tmp_path / "album/66.png").unlink()
    album([*(name for name in (*FIRST, *LATER) if name != "66.png"), "98.png"])
    done = extract()
    assert "1 of 90 images changed since they were encoded (85.png)" in done.err
    after = features("s.zarr")
    assert [key for key in before if not np.array_equal(before[key], after[key])] == ["85.png"]
    assert list(after) == [*FIRST, *LATER, "98.png"]
    assert not list(verify_deep(Store.open("s.zarr")))


def test_failed_samples_stay_failed_until_they_are_retried(
    album: Album, extract: Extract, command: Callable[..., Outcome], tmp_path: Path
) -> None:
    album([*FIRST, "bad1.png"])
    assert extract().code == 3
    album(["bad2.png", *LATER[:4], *FIRST, "bad1.png"])
    assert extract().code == 3
    assert Store.open("s.zarr").failed_samples().keys() == {"bad1.png", "bad2.png"}
    for name in ("bad1.png", "bad2.png"):
        save_photo(tmp_path / "album" / name, seed=5)
    tried = command("retry-failed", "s.zarr")
    assert "2 of 2 failed samples encoded" in tried.out
    after = features("s.zarr")
    assert list(after) == [*FIRST, "bad1.png", "bad2.png", *LATER[:4]]
    assert np.array_equal(after["bad1.png"], after["bad2.png"])


def test_a_stopped_growth_is_shown_and_resumed(
    album: Album,
    extract: Extract,
    command: Callable[..., Outcome],
    caplog: pytest.LogCaptureFixture,
) -> None:
    album(FIRST)
    extract()
    album([*FIRST, *LATER])
    assert extract("--shard", "1/2").code == 0
    assert len(features("s.zarr")) == 20
    shown = command("status", "s.zarr")
    assert shown.code == 3
    assert "1 of 2 shards, 26 of 90 records" in shown.out
    assert "70 records being added; the first 20 can be used meanwhile" in shown.out
    status = json.loads(command("status", "s.zarr", "--json").out)
    assert status == {"shards": 2, "missing": [0], "records": 90, "failed": 0, "usable": 20}
    assert command("verify", "s.zarr", "--deep").code == 3
    assert "0\n" in command("status", "s.zarr", "--missing").out
    with caplog.at_level(logging.INFO):
        assert extract("--shard", "0/2").code == 0
    assert len(features("s.zarr")) == 90
    assert command("verify", "s.zarr", "--deep").code == 0
    assert "20 -> 90" in command("inspect", "s.zarr").out


def test_a_copy_of_a_grown_store_has_its_rows_in_usual_shards(
    album: Album, extract: Extract, command: Callable[..., Outcome]
) -> None:
    for names in (FIRST, [*FIRST, *LATER]):
        album(names)
        extract()
    assert command("convert", "s.zarr", "--out", "copy.h5").code == 0
    ours, copied = features("s.zarr"), features("copy.h5")
    assert list(ours) == list(copied)
    assert all(np.array_equal(ours[key], copied[key]) for key in ours)
    assert not Store.open("copy.h5").growth


def test_a_sample_that_left_before_it_was_encoded_fails_until_it_is_back(
    album: Album, extract: Extract, command: Callable[..., Outcome]
) -> None:
    album(FIRST)
    extract()
    album([*FIRST, *LATER])
    extract("--shard", "1/2")
    album([*FIRST, *LATER[1:]])
    assert extract().code == 3
    assert Store.open("s.zarr").failed_samples() == {LATER[0]: "not in the dataset any more"}
    album([*FIRST, *LATER])
    assert command("retry-failed", "s.zarr").code == 0
    assert not Store.open("s.zarr").failed_samples()
