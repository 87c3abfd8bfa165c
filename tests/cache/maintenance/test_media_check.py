"""Media tables of a store, and the check for changed media files."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.maintenance import media_check
from epalm.cache.maintenance.convert import convert
from epalm.cache.maintenance.media_check import (
    CHANGED,
    SAME,
    TOUCHED,
    VANISHED,
    compare_files,
    read_media_table,
    verify_media,
    warn_about_changed_media,
)
from epalm.cache.maintenance.verify import repair, verify, verify_deep
from epalm.cache.records import file_state
from epalm.cache.records.file_state import MediaFile
from epalm.cache.records.media_table import MediaTable, describe_files
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.cache.store import Store
from epalm.errors import CorruptShardError
from tests.cache.helpers import COUNT, KEYS, file_contents, finished_store, random_features, spec

NAMES = [f"{row}.jpg" for row in range(COUNT)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for row, name in enumerate(NAMES):
        (folder / name).write_bytes(b"photo %d" % row)
        os.utime(folder / name, ns=(0, 1_000_000_000 * row + 7))
    return folder


def files(root: Path) -> list[MediaFile]:
    return [MediaFile(str(root / name), name) for name in NAMES]


def no_progress(count: int, note: str = "") -> None:
    """A ticker that shows nothing."""


def make_store(
    location: str | Path, root: Path, *, content_hash: bool = False, **changes: object
) -> Store:
    store = create_store(location, spec(content_hash=content_hash, **changes), KEYS)
    values = random_features(**changes)
    record = describe_files(files(root), hashed=content_hash)
    for shard in store.missing_shards():
        rows = store.spec.rows_of(shard)
        own = record.take(list(rows))
        store.write_shard(shard, values[rows.start : rows.stop], {}, media=own)
    store.finish()
    return store


def replace_file(file: Path, content: bytes, *, seconds: int = 5000) -> None:
    file.write_bytes(content)
    os.utime(file, ns=(0, seconds * 1_000_000_000))


@pytest.mark.parametrize("name", ["a.zarr", "a.h5"])
@pytest.mark.parametrize("content_hash", [False, True])
def test_a_store_has_media_tables(root: Path, name: str, *, content_hash: bool) -> None:
    store = Store.open(make_store(root.parent / name, root, content_hash=content_hash).location)
    record = read_media_table(store, 1)
    assert record is not None
    assert store.spec.content_hash == content_hash
    assert record.names.tolist() == NAMES[64:128]
    assert record.numbers[3].tolist() == [8, 67_000_000_007, 0, -1]
    assert (record.hashes is not None) == content_hash
    assert list(verify_deep(store)) == []


def test_a_media_table_is_a_plain_numpy_file(root: Path) -> None:
    make_store(root.parent / "a.zarr", root, content_hash=True)
    table = np.load(root.parent / "a.zarr/epalm/media/00000.npy")
    assert table["path"][5] == b"5.jpg"
    assert table["mtime_ns"][5] == 5_000_000_007
    assert table["sha256"][5].tobytes() == hashlib.sha256(b"photo 5").digest()


def test_equal_files_give_equal_stores(root: Path) -> None:
    first = make_store(root.parent / "a.zarr", root, content_hash=True)
    again = make_store(root.parent / "b.zarr", root, content_hash=True)
    assert file_contents(first) == file_contents(again)


def test_a_damaged_media_record_is_found_and_repaired(root: Path) -> None:
    store = make_store(root.parent / "a.zarr", root)
    data = bytearray(store.storage.read(store.media_table_name(1)))
    data[-3] ^= 1
    store.storage.put(store.media_table_name(1), [bytes(data)])
    with pytest.raises(CorruptShardError, match="epalm-extract repair"):
        read_media_table(store, 1)
    assert list(verify(store)) == []
    assert [issue.name for issue in verify_deep(store)] == [store.media_table_name(1)]
    repair(store)
    assert store.missing_shards() == [1]


def test_a_store_without_spec_json_is_extracted_again_over_its_media_tables(root: Path) -> None:
    store = make_store(root.parent / "a.zarr", root)
    before = file_contents(store)
    store.storage.delete([store.private_name("spec.json"), *store.format.initial_files])
    store.storage.delete([store.private_name("errors.jsonl")])
    assert file_contents(make_store(root.parent / "a.zarr", root)) == before


@pytest.mark.parametrize("content_hash", [False, True])
def test_every_kind_of_change_has_its_status(root: Path, *, content_hash: bool) -> None:
    record = describe_files(files(root), hashed=content_hash)
    replace_file(root / "0.jpg", b"PHOTO 0")
    replace_file(root / "1.jpg", b"a longer photo")
    replace_file(root / "2.jpg", b"photo 2")
    (root / "3.jpg").unlink()
    compared = compare_files(record, files(root))
    touched = TOUCHED if content_hash else CHANGED
    assert compared.status[:5].tolist() == [CHANGED, CHANGED, touched, VANISHED, SAME]
    assert compared.by_time[:5].tolist() == [
        not content_hash,
        False,
        not content_hash,
        False,
        False,
    ]


def test_a_slow_file_system_changes_no_result(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe_files(files(root), hashed=False).to_bytes()
    monkeypatch.setattr(file_state, "SLOW_SECONDS", 0.0)
    assert describe_files(files(root), hashed=False).to_bytes() == before


def test_a_change_that_kept_the_time_is_found_if_all_files_are_hashed(root: Path) -> None:
    record = describe_files(files(root), hashed=True)
    before = (root / "4.jpg").stat().st_mtime_ns
    (root / "4.jpg").write_bytes(b"PHOTO 4")
    os.utime(root / "4.jpg", ns=(0, before))
    assert compare_files(record, files(root)).status[4] == SAME
    assert compare_files(record, files(root), read_all=True).status[4] == CHANGED


def test_a_file_that_appears_has_changed_and_one_that_stays_absent_has_not(root: Path) -> None:
    (root / "0.jpg").unlink()
    (root / "1.jpg").unlink()
    (root / "1.jpg").mkdir()
    record = describe_files(files(root), hashed=True)
    assert compare_files(record, files(root)).status[:2].tolist() == [SAME, SAME]
    replace_file(root / "0.jpg", b"new")
    assert compare_files(record, files(root)).status[:2].tolist() == [CHANGED, SAME]


def test_an_empty_file_vanishes_like_any_other(root: Path) -> None:
    (root / "0.jpg").write_bytes(b"")
    record = describe_files(files(root), hashed=False)
    (root / "0.jpg").unlink()
    assert compare_files(record, files(root)).status[0] == VANISHED


def test_a_sample_in_a_tar_file_changes_with_it_unless_its_hash_is_recorded(root: Path) -> None:
    tar = root / "0.tar"
    tar.write_bytes(b"headAAAAheadBBBB")
    parts = [MediaFile(str(tar), "0.tar", 4, 4), MediaFile(str(tar), "0.tar", 12, 4)]
    plain, hashed = (describe_files(parts, hashed=hashed) for hashed in (False, True))
    replace_file(tar, b"headAAAAheadCCCC")
    assert compare_files(plain, parts).status.tolist() == [CHANGED, CHANGED]
    assert compare_files(hashed, parts).status.tolist() == [TOUCHED, CHANGED]
    moved = [part._replace(offset=part.offset + 4) for part in parts]
    replace_file(tar, b"moreheadAAAAheadBBBB")
    assert compare_files(plain, moved).status.tolist() == [CHANGED, CHANGED]
    assert compare_files(hashed, moved).status.tolist() == [TOUCHED, TOUCHED]


def test_a_file_name_that_is_not_utf_8_is_preserved(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9 .jpg")
    record = describe_files([MediaFile(str(root / name), name)], hashed=False)
    again = MediaTable.from_bytes(record.to_bytes(), rows=1, where="here")
    assert again.names.tolist() == [name]


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x93NUMPY\x01\x00", MediaTable.unknown(2, hashed=False).to_bytes()]
)
def test_bytes_that_are_not_a_media_table_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptShardError, match="not a media table"):
        MediaTable.from_bytes(data, rows=3, where="here")


def test_verify_media_counts_changed_touched_and_vanished_files(root: Path) -> None:
    store = make_store(root.parent / "a.zarr", root, content_hash=True)
    replace_file(root / "0.jpg", b"PHOTO 0")
    replace_file(root / "100.jpg", b"photo 100")
    (root / "149.jpg").unlink()
    actual = verify_media(store, str(root))
    assert (actual.checked, actual.touched, actual.not_recorded) == (150, 1, 0)
    assert (actual.changed, actual.vanished) == ([KEYS[0]], [KEYS[149]])


def test_stores_of_earlier_versions_have_no_recorded_state(root: Path) -> None:
    store = finished_store(root.parent / "old.zarr")
    fields = load_checksummed(store.storage.read(store.private_name("spec.json")), "spec.json")
    del fields["spec"]["content_hash"]  # as earlier versions wrote it
    store.storage.put(store.private_name("spec.json"), [dump_checksummed(fields)])
    actual = verify_media(Store.open(store.location), str(root))
    assert (actual.checked, actual.not_recorded, actual.changed) == (0, COUNT, [])


def test_converted_stores_keep_their_media_tables(root: Path) -> None:
    hashed = make_store(root.parent / "a.zarr", root, content_hash=True)
    copy = convert([hashed], root.parent / "b.h5", tick=no_progress)
    assert copy.spec.shards == 1
    assert copy.spec.content_hash
    record, before = (read_media_table(store, 0) for store in (copy, hashed))
    assert record is not None
    assert before is not None
    assert record.take(range(64)).to_bytes() == before.to_bytes()
    assert verify_media(copy, str(root)).checked == COUNT
    old = convert(
        [finished_store(root.parent / "old.zarr")], root.parent / "c.h5", tick=no_progress
    )
    assert read_media_table(old, 0) is None


def test_merged_stores_keep_media_tables_that_agree(root: Path) -> None:
    parts = []
    for seed in (1, 2):
        replace_file(root / "7.jpg", b"photo 7", seconds=seed)
        location = root.parent / f"{seed}.zarr"
        parts.append(make_store(location, root, views=2, fingerprint={"views.seed": str(seed)}))
    merged = convert(parts, root.parent / "m.zarr", tick=no_progress)
    actual = verify_media(merged, str(root))
    assert (actual.checked, actual.not_recorded, actual.changed) == (COUNT - 1, 1, [])


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Messages of all warnings so far."""
    messages: list[str] = []
    monkeypatch.setattr(
        media_check.logger, "warning", lambda text, *values: messages.append(text % values)
    )
    return messages


def test_changed_files_cause_one_warning(root: Path, warnings: list[str]) -> None:
    store = make_store(root.parent / "a.zarr", root)
    rows = np.arange(COUNT)
    warn_about_changed_media(store, rows, root=str(root), seed=0)
    assert warnings == []
    for name in ("3.jpg", "5.jpg"):
        replace_file(root / name, b"PHOTO x")
    (root / "6.jpg").unlink()
    warn_about_changed_media(store, rows, root=str(root), seed=0)
    assert len(warnings) == 1
    assert "2 of 150 media files checked changed" in warnings[0]
    assert f"epalm-extract verify --media {store.location}" in warnings[0]
    warn_about_changed_media(store, rows[10:], root=str(root), seed=0)
    assert len(warnings) == 1


def test_missing_files_cause_no_warning(root: Path, warnings: list[str]) -> None:
    store = make_store(root.parent / "a.zarr", root)
    for name in NAMES:
        (root / name).unlink()
    warn_about_changed_media(store, np.arange(COUNT), root=str(root), seed=0)
    warn_about_changed_media(store, np.arange(COUNT), root=str(root / "nowhere"), seed=0)
    warn_about_changed_media(
        finished_store(root.parent / "old.zarr"), np.arange(COUNT), root=str(root), seed=0
    )
    assert warnings == []


def test_touched_files_with_the_same_content_cause_no_warning(
    root: Path, warnings: list[str]
) -> None:
    store = make_store(root.parent / "a.zarr", root, content_hash=True)
    for row, name in enumerate(NAMES):
        replace_file(root / name, b"photo %d" % row)
    warn_about_changed_media(store, np.arange(COUNT), root=str(root), seed=0)
    assert warnings == []


def test_at_most_the_sampled_number_of_files_is_checked(
    root: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(root.parent / "a.zarr", root)
    for name in NAMES:
        replace_file(root / name, b"PHOTO x")
    monkeypatch.setattr(media_check, "SAMPLED_FILES", 20)
    monkeypatch.setattr(media_check, "SAMPLED_SHARDS", 2)
    warn_about_changed_media(store, np.arange(COUNT), root=str(root), seed=0)
    assert "20 of 20 media files checked changed" in warnings[0]
