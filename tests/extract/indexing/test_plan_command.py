import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.store import Store
from epalm.errors import StoreError
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

COUNT = 70


class Runs:
    """Runs `epalm-extract` over photos that are in several kinds of datasets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.patches, self.streams = monkeypatch, capsys

    def __call__(self, *words: str) -> Outcome:
        return run_command(self.patches, self.streams, *words)

    def extract(self, dataset: str, *options: str) -> Outcome:
        usual = ("--encoder", TINY, "--weights", "w.safetensors", "--workers", "0")
        return self(*usual, "--dataset", dataset, *options)


@pytest.fixture
def runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Runs:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extraction_plan, "fit_shard_rows", lambda count, row_bytes: 64)
    save_weights(random_model("test_vit", num_classes=3), Path("w.safetensors"))
    Path("photos").mkdir()
    names = [f"{number:03d}.png" for number in range(COUNT)]
    for number, name in enumerate(names):
        save_photo(Path("photos") / name, width=20, height=20, seed=number)
    return Runs(monkeypatch, capsys)


def write_manifest(numbers: Iterable[int] = range(COUNT)) -> None:
    lines = [json.dumps({"id": str(n), "media": f"{n:03d}.png"}) for n in numbers]
    Path("photos/train.jsonl").write_text("\n".join(lines))


def features(store: str) -> np.ndarray:
    array = zarr.open_group(store, mode="r")["cls"]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def test_every_kind_of_dataset_gives_the_features_of_its_images(runs: Runs) -> None:
    photos = sorted(Path("photos").iterdir())
    assert runs.extract("photos", "--out", "folder.zarr").code == 0
    Path("tars").mkdir()
    for part in range(2):
        with tarfile.open(f"tars/{part}.tar", "w") as archive:
            for photo in photos[part * 40 : part * 40 + 40]:
                member = tarfile.TarInfo(photo.name)
                member.size = photo.stat().st_size
                archive.addfile(member, io.BytesIO(photo.read_bytes()))
    assert runs.extract("tars", "--out", "tars.zarr").code == 0
    Path("tables").mkdir()
    images = [{"bytes": photo.read_bytes(), "path": photo.name} for photo in photos]
    pq.write_table(pa.table({"image": images}), "tables/t.parquet", row_group_size=30)
    assert runs.extract("tables", "--out", "tables.zarr").code == 0
    write_manifest()
    assert runs.extract("photos", "--out", "manifest.zarr").code == 0
    assert not Path("manifest.zarr.index").exists()
    expected = features("manifest.zarr")
    for kind in ("folder", "tars", "tables"):
        assert np.array_equal(features(f"{kind}.zarr"), expected), kind
        assert len(SampleIndex.open(f"{kind}.zarr.index")) == COUNT


def test_an_index_planned_in_parts_gives_the_store_of_a_list_in_memory(runs: Runs) -> None:
    write_manifest()
    Path("photos/val.csv").write_text("id,media\nv,003.png\n")
    assert runs.extract("photos", "--out", "a/s.zarr").code == 0
    plan = ("plan", "--dataset", "photos", "--out", "b/s.zarr", "--quiet")
    waiting = runs(*plan, "--part", "1/2")
    assert (waiting.code, "part 1/2 is built" in waiting.out) == (0, True)
    done = runs(*plan, "--part", "0/2", "--json")
    assert json.loads(done.out)["samples"] == COUNT
    assert runs.extract("photos", "--out", "b/s.zarr").code == 0
    assert tree_bytes(Path("a/s.zarr")) == tree_bytes(Path("b/s.zarr"))
    assert runs.extract("photos", "--out", "c/s.zarr", "--index", "b/s.zarr.index").code == 0
    assert tree_bytes(Path("a/s.zarr")) == tree_bytes(Path("c/s.zarr"))
    again = runs.extract("photos", "--out", "b/s.zarr")
    assert "already complete: nothing to do" in again.out


def test_a_dataset_that_has_changed_gives_the_rows_of_a_list_in_memory(runs: Runs) -> None:
    """Two samples leave, ten come before the others, and one fails in the meantime."""
    for store, index in (("a/s.zarr", ()), ("b/s.zarr", ("--index", "index"))):
        write_manifest(range(10, COUNT))
        photo = Path("photos/044.png").read_bytes()
        Path("photos/044.png").write_bytes(b"no photo")
        assert runs.extract("photos", "--out", store, *index).code == 3
        Path("photos/044.png").write_bytes(photo)
        write_manifest([*range(10), *range(12, COUNT)])
        grown = runs.extract("photos", "--out", store, *index, "--changed-media", "keep")
        assert (grown.code, "10 samples of the dataset are new" in grown.err) == (3, True)
        assert "2 of its 60 samples are not in the dataset" in grown.err
        retried = ("retry-failed", store, "--dataset", "photos", "--weights", "w.safetensors")
        assert runs(*retried).code == 0
    media = ("epalm/media", "epalm/done")  # the photo of each extraction has its own time
    kept = [
        {name: data for name, data in tree_bytes(Path(store)).items() if not name.startswith(media)}
        for store in ("a/s.zarr", "b/s.zarr")
    ]
    assert len(kept[0]) > 1
    assert kept[0] == kept[1]


def test_a_dry_run_leaves_no_index(runs: Runs) -> None:
    before = sorted(Path().rglob("*"))
    done = runs.extract("photos", "--dry-run", "--out", "s.zarr", "--quiet")
    assert (done.code, done.err) == (0, "")  # no word about the manifest that is not there
    assert "a store saves time" not in done.out
    assert sorted(Path().rglob("*")) == before


def test_a_dry_run_leaves_an_index_of_an_earlier_state_and_a_run_renews_it(runs: Runs) -> None:
    index = Path("s.zarr.index")
    assert runs("plan", "--dataset", "photos", "--index", str(index)).code == 0
    save_photo(Path("photos/new.png"), width=20, height=20)
    before = tree_bytes(index)
    for mode in ("--dry-run", "--benchmark"):
        assert runs.extract("photos", mode, "--out", "s.zarr").code == 0
        assert tree_bytes(index) == before
    assert runs.extract("photos", "--out", "s.zarr").code == 0
    assert len(SampleIndex.open(index)) == COUNT + 1


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--benchmark",), ("plan",)])
def test_the_index_of_another_dataset_is_refused(runs: Runs, options: tuple[str, ...]) -> None:
    assert runs("plan", "--dataset", "photos", "--index", "index").code == 0
    before = tree_bytes(Path("index"))
    Path("others").mkdir()
    save_photo(Path("others/a.png"), width=20, height=20)
    command = ("--dataset", "others", "--index", "index")
    if options == ("plan",):
        refused = runs("plan", *command)
    else:
        refused = runs.extract(*command[1:], *options, "--out", "others.zarr")
    assert (refused.code, "dataset photos, not of others" in refused.err) == (4, True)
    assert tree_bytes(Path("index")) == before
    assert not Path("others.zarr").exists()
    assert runs("plan", *command, "--fresh").code == 0
    assert len(SampleIndex.open("index")) == 1


def test_a_place_for_the_index_is_needed_and_only_an_index_is_deleted(runs: Runs) -> None:
    missing = runs("plan", "--dataset", "photos")
    assert (missing.code, "--out STORE or --index FOLDER" in missing.err) == (2, True)
    beyond = runs("plan", "--dataset", "photos", "--index", "i", "--part", "3/2")
    assert (beyond.code, "--part" in beyond.err, "--shard" in beyond.err) == (2, True, False)
    refused = runs("plan", "--dataset", "photos", "--index", "photos", "--fresh")
    assert (refused.code, "--fresh deletes only an index" in refused.err) == (2, True)
    assert len(list(Path("photos").iterdir())) == COUNT


def test_the_samples_of_a_store_are_indexed_without_its_dataset(runs: Runs) -> None:
    write_manifest()
    assert runs.extract("photos", "--out", "s.zarr").code == 0
    done = runs("plan", "--out", "s.zarr", "--json", "--quiet")
    assert json.loads(done.out)["samples"] == COUNT
    assert SampleIndex.open("s.zarr.index").find(["007.png"]).tolist() == [7]
    for words in (("--index", "i"), ("--out", "s.zarr", "--part", "0/2")):
        refused = runs("plan", *words)
        assert (refused.code, "--dataset must be given" in refused.err) == (2, True)
    assert "found nothing at absent.zarr" in runs("plan", "--out", "absent.zarr").err


def test_a_process_killed_before_the_keys_are_written_changes_no_byte(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends without cleaning up. Of two later ones, the last writes the keys."""
    for number in range(COUNT, 150):  # three shards
        save_photo(Path("photos") / f"{number:03d}.png", width=20, height=20, seed=number)
    assert runs.extract("photos", "--out", "whole.zarr").code == 0

    def killed(self: Store, name: str, parts: object) -> None:
        raise StoreError(f"killed while it writes {name}")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_put", killed)
        assert "killed" in runs.extract("photos", "--out", "s.zarr").err
    assert not Path("s.zarr/keys/c/0").exists()
    Path("s.zarr/epalm/put").mkdir(exist_ok=True)
    Path("s.zarr/epalm/put/0123").write_bytes(b"a part of the keys")
    first = runs.extract("photos", "--out", "s.zarr", "--shard", "1/2")
    assert (first.code, Path("s.zarr/keys/c/0").exists()) == (0, True)
    assert not Path("s.zarr/epalm/errors.jsonl").exists()
    Path("s.zarr/keys/c/0").unlink()  # as if it had been killed, too
    assert runs.extract("photos", "--out", "s.zarr", "--shard", "0/2").code == 0
    assert tree_bytes(Path("s.zarr")) == tree_bytes(Path("whole.zarr"))
