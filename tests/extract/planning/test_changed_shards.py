"""Files that change after they were encoded are detected, and their shards are encoded again."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from epalm.cache.create_store import create_store
from epalm.cache.maintenance.media_check import read_media_table, verify_media
from epalm.cache.maintenance.verify import repair, verify_deep
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, MediaError, Stopped, StoreError
from epalm.extract.planning.changed_shards import shards_to_reencode
from epalm.extract.planning.extraction_plan import Plan, RunOptions
from epalm.extract.planning.extraction_result import ExtractionReport
from epalm.extract.planning.process_shards import ALL, ProcessShard
from epalm.extract.planning.store_rows import Target
from epalm.extract.run_extraction import extract
from epalm.tasks.types import ByteRange, MediaItem
from tests.cache.helpers import file_contents
from tests.extract.helpers import (
    TINY,
    Command,
    CountingEncoder,
    random_model,
    run_command,
    save_photo,
    save_weights,
)

COUNT = 64 * 3 + 10
SECOND = 1_000_000_000


def load_bytes(item: MediaItem, view: int) -> torch.Tensor:
    """Load the number in the file or in a part of it, (1, 1)."""
    try:
        content = item.path.read_bytes() if item.part is None else item.part.read(item.path)
        return torch.full((1, 1), float(content) + view)
    except (OSError, ValueError) as error:
        raise MediaError(f"{item.key}: {error}") from error


class BytesEncoder(CountingEncoder):
    """An encoder whose features are the number in the file."""

    def __init__(self, *, interrupt_after: int | None = None) -> None:
        super().__init__(interrupt_after=interrupt_after)
        self.load = load_bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for row in range(COUNT):
        put(folder, row, f"{row:03d}", seconds=row)
    return folder


def put(root: Path, row: int, content: str, *, seconds: int = 10_000) -> None:
    file = root / f"{row}.txt"
    file.write_text(content)
    os.utime(file, ns=(0, seconds * SECOND))


def items(root: Path) -> tuple[MediaItem, ...]:
    return tuple(MediaItem(f"k{row}", root, f"{row}.txt") for row in range(COUNT))


def run(
    location: str | Path,
    root: Path,
    *,
    media: Sequence[MediaItem] | None = None,
    encoder: CountingEncoder | None = None,
    content_hash: bool = False,
    changed_media: str | None = None,
    process_shard: ProcessShard = ALL,
) -> ExtractionReport:
    """Run an extraction as `epalm-extract` does."""
    spec = StoreSpec(
        dataset="numbers",
        encoder="bytes",
        fingerprint={"code": "test"},
        layers=tuple(range(1, 7)),
        width=4,
        count=COUNT,
        data_root=str(root),
        shard_rows=64,
        content_hash=content_hash,
    )
    plan = Plan(
        encoder=encoder or BytesEncoder(),
        items=tuple(media or items(root)),
        spec=spec,
        out=str(location),
        store_format=None,
        run_options=RunOptions(batch_size=32, workers=0, quiet=True),
        process_shard=process_shard,
        root=root,
    )
    store = create_store(location, spec, plan.keys)
    return extract(
        plan.encoder,
        plan.items,
        store,
        options=plan.run_options,
        process_shard=process_shard,
        root=root,
        reencode=shards_to_reencode(Target(store, plan.items, plan), changed_media),
    )


LOCATIONS = pytest.mark.parametrize("location", ["{}/s.zarr", "{}/s.h5", "memory:/{}/s.zarr"])


def inodes(store: Store, shards: Sequence[int]) -> list[tuple[int, int]]:
    folder = Path(store.format.root(store.location))
    names = [name for shard in shards for name in store.commit_record(shard).files]
    return [((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns) for name in names]


@LOCATIONS
def test_only_the_shards_of_changed_files_are_made_again_as_a_new_store_would_be(
    root: Path, location: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = location.format(root.parent)
    assert run(place, root).encoded == COUNT
    assert run(place, root).encoded == 0
    before = file_contents(Store.open(place))
    put(root, 70, "999")  # as long as before
    put(root, 71, "12345", seconds=71)  # of the same time
    with caplog.at_level(logging.WARNING):
        assert run(place, root).encoded == 64
    assert "2 of 202 images changed since they were encoded (k70, k71)" in caplog.text
    assert "encoding 1 shard again (64 images)" in caplog.text
    after = file_contents(Store.open(place))
    changed = {name for name in after if after[name] != before[name]}
    store = Store.open(place)
    assert changed == {
        store.format.shard_files(1)[0],
        store.media_table_name(1),
        store.commit_record_name(1),
    }
    run(f"{place.rsplit('/', 1)[0]}/new/{place.rsplit('/', 1)[1]}", root)
    fresh = Store.open(f"{place.rsplit('/', 1)[0]}/new/{place.rsplit('/', 1)[1]}")
    assert after == file_contents(fresh)
    assert run(place, root).encoded == 0


def test_shards_without_failures_are_not_rewritten(root: Path) -> None:
    store_path = root.parent / "s.zarr"
    run(store_path, root)
    store = Store.open(store_path)
    before = inodes(store, [0, 2, 3])
    put(root, 70, "999")
    run(store_path, root)
    assert inodes(store, [0, 2, 3]) == before


@pytest.mark.parametrize("content_hash", [False, True])
def test_a_touched_file_is_encoded_again_unless_its_content_is_known(
    root: Path, caplog: pytest.LogCaptureFixture, *, content_hash: bool
) -> None:
    store = root.parent / "s.zarr"
    run(store, root, content_hash=content_hash)
    put(root, 5, "005")
    with caplog.at_level(logging.INFO):
        report = run(store, root, content_hash=content_hash)
    assert report.encoded == (0 if content_hash else 64)
    assert ("1 image with another modification time" in caplog.text) == content_hash
    put(root, 5, "995", seconds=20_000)
    assert run(store, root).encoded == 64
    record = read_media_table(Store.open(store), 0)
    assert record is not None
    assert (record.hashes is not None) == content_hash


def test_features_of_deleted_files_are_kept(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = root.parent / "s.zarr"
    run(store, root)
    before = file_contents(Store.open(store))
    (root / "3.txt").unlink()
    (root / "150.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert run(store, root).encoded == 0
    assert "2 of 202 images no longer exist (k3, k150): their features are kept" in caplog.text
    assert file_contents(Store.open(store)) == before
    put(root, 4, "999")
    report = run(store, root)
    assert (report.encoded, report.failed) == (63, 0)
    put(root, 3, "003", seconds=3)
    put(root, 150, "150", seconds=150)
    run(root.parent / "new.zarr", root)
    assert file_contents(Store.open(store)) == file_contents(Store.open(root.parent / "new.zarr"))


def test_a_file_that_was_missing_is_encoded_once_it_is_there(root: Path) -> None:
    store = root.parent / "s.zarr"
    (root / "3.txt").unlink()
    assert run(store, root).failed == 1
    assert run(store, root).encoded == 0
    put(root, 3, "003", seconds=3)
    report = run(store, root)
    assert (report.encoded, report.failed) == (64, 0)
    run(root.parent / "new.zarr", root)
    assert file_contents(Store.open(store)) == file_contents(Store.open(root.parent / "new.zarr"))


@pytest.mark.parametrize("content_hash", [False, True])
def test_changes_in_a_tar_file_are_detected_by_position_or_by_content(
    root: Path, *, content_hash: bool
) -> None:
    def packed(numbers: Sequence[str], seconds: int) -> list[MediaItem]:
        (root / "a.tar").write_bytes(b"".join(b"%10s" % text.encode() for text in numbers))
        os.utime(root / "a.tar", ns=(0, seconds * SECOND))
        return [
            MediaItem(f"k{row}", root, "a.tar", part=ByteRange(10 * row, 10))
            for row in range(COUNT)
        ]

    store, numbers = root.parent / "s.zarr", [str(row) for row in range(COUNT)]
    run(store, root, media=packed(numbers, 1), content_hash=content_hash)
    assert run(store, root, media=packed(numbers, 1)).encoded == 0
    numbers[70] = "999"
    again = packed(numbers, 2)
    if not content_hash:
        with pytest.raises(StoreError, match="as in a copy"):
            run(store, root, media=again)
    report = run(store, root, media=again, changed_media="encode")
    assert report.encoded == (64 if content_hash else COUNT)
    run(root.parent / "new.zarr", root, media=again)
    new, old = Store.open(root.parent / "new.zarr"), Store.open(store)
    for shard in range(4):
        name = old.format.shard_files(shard)[0]
        assert new.storage.read(name) == old.storage.read(name)


def test_a_copied_data_set_requires_the_changed_media_option(root: Path) -> None:
    store = root.parent / "s.zarr"
    run(store, root)
    copy = root.parent / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    with pytest.raises(StoreError, match=r"202 of 202 .* give --changed-media keep .* encode"):
        run(store, copy)
    assert run(store, copy, changed_media="keep").encoded == 0
    assert run(store, copy, changed_media="encode").encoded == COUNT
    hashed = root.parent / "h.zarr"
    run(hashed, root, content_hash=True)
    assert run(hashed, copy).encoded == 0


def test_a_store_without_media_tables_is_resumed_and_reported_as_unknown(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = root.parent / "s.zarr"
    write = Store.write_shard
    monkeypatch.setattr(Store, "write_shard", lambda *args, media: write(*args))
    run(store, root)
    monkeypatch.undo()
    opened = Store.open(store)
    assert [read_media_table(opened, shard) for shard in range(4)] == [None] * 4
    put(root, 5, "995")
    opened.uncommit_shard(2)
    with caplog.at_level(logging.INFO):
        assert run(store, root).encoded == 64
    assert "unknown whether 138 images changed" in caplog.text
    assert list(verify_deep(Store.open(store))) == []
    actual = verify_media(Store.open(store), str(root))
    assert (actual.checked, actual.not_recorded) == (64, 138)


def test_a_store_keeps_its_setting_of_content_hashes(root: Path) -> None:
    run(root.parent / "plain.zarr", root)
    with pytest.raises(CacheMismatchError, match="created without --content-hash"):
        run(root.parent / "plain.zarr", root, content_hash=True)
    run(root.parent / "hashed.zarr", root, content_hash=True)
    Store.open(root.parent / "hashed.zarr").uncommit_shard(0)
    run(root.parent / "hashed.zarr", root)
    record = read_media_table(Store.open(root.parent / "hashed.zarr"), 0)
    assert record is not None
    assert record.hashes is not None
    assert record.hashes.any(axis=1).all()


def test_each_process_looks_after_its_own_shards(root: Path) -> None:
    store = root.parent / "s.zarr"
    run(store, root)
    put(root, 5, "995")
    put(root, 70, "995")
    assert run(store, root, process_shard=ProcessShard(1, 2)).encoded == 64
    assert run(store, root, process_shard=ProcessShard(0, 2)).encoded == 64
    assert run(store, root).encoded == 0


def test_an_interrupted_run_makes_the_rest_of_the_changed_shards(root: Path) -> None:
    store = root.parent / "s.zarr"
    run(store, root)
    for row in (5, 70, 130):
        put(root, row, "995")
    with pytest.raises(Stopped, match="stopped with 2 of 4 shards to do"):
        run(store, root, encoder=BytesEncoder(interrupt_after=3))
    assert run(store, root).encoded == 128
    run(root.parent / "new.zarr", root)
    assert file_contents(Store.open(store)) == file_contents(Store.open(root.parent / "new.zarr"))


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_shard_does_not_count_while_it_is_written_again(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root.parent / name
    run(path, root)
    put(root, 5, "995")

    def full(*_: object, **__: object) -> None:
        raise StoreError("no space left on device")

    monkeypatch.setattr(Store, "write_shard", full)
    with pytest.raises(StoreError, match="no space left"):
        run(path, root)
    monkeypatch.undo()
    assert Store.open(path).missing_shards() == [0]
    assert list(verify_deep(Store.open(path))) == []
    run(path, root)
    run(root.parent / "new" / name, root)
    assert file_contents(Store.open(path)) == file_contents(Store.open(root.parent / "new" / name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_kills_at_any_change_of_a_file_lose_nothing(root: Path, name: str) -> None:
    """Kill a process before its first, second, ... change, until one ends by itself."""
    path = root.parent / name
    run(path, root)
    before = {file: file.read_bytes() for file in root.parent.glob("s.*/**/*") if file.is_file()}
    for row in (5, 70):
        put(root, row, "995")
    run(root.parent / "new" / name, root)
    expected = file_contents(Store.open(root.parent / "new" / name))
    ended, steps = False, 0
    while not ended:
        for file, content in before.items():
            file.write_bytes(content)
        ended = killed_before_change(steps, partial(run, path, root))
        store = Store.open(path)
        assert {problem.found for problem in verify_deep(store)} <= {"is missing"}
        for shard in {0, 1} - set(store.missing_shards()):
            check_described(store, shard)
        run(path, root)
        assert file_contents(Store.open(path)) == expected
        steps += 1
    assert steps > 8


def check_described(store: Store, shard: int) -> None:
    """Check that the features of committed shards are those of the files in their media tables."""
    record, row = read_media_table(store, shard), (5, 6)[shard]
    assert record is not None
    vectors = np.empty((len(record), *store.spec.row_shape), store.spec.dtype)
    store.read_shard(shard, vectors)
    assert (vectors[row, 0, 0, 0] == 996) == (record.numbers[row, 1] == 10_000 * SECOND)


def killed_before_change(steps: int, work: Callable[[], object]) -> bool:
    """Kill a fork after it has changed this number of files; return whether it ended first."""
    child = os.fork()
    if child == 0:
        left = iter(range(steps))

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **named: object) -> object:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return call

        for name in ("replace", "unlink"):
            setattr(Path, name, counted(getattr(Path, name)))
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of six images, the fourth of which is cut off."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(6):
        save_photo(folder / f"{number}.png", seed=number)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:300])
    lines = [{"id": str(n), "media": f"{n}.png", "answers": ["a"]} for n in range(6)]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def command(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    weights = save_weights(random_model("test_vit", num_classes=3), tmp_path / "w.safetensors")

    def invoke(*words: str) -> object:
        usual = ["--encoder", TINY, "--weights", str(weights), "--dataset", str(album)]
        usual += ["--workers", "0", "--out", "a.zarr"]
        words = words if words and not words[0].startswith("-") else (*usual, *words)
        return run_command(monkeypatch, capsys, *words)

    return invoke  # type: ignore[return-value]


def test_the_commands_name_changed_files_and_their_exit_codes_say_so(
    command: Command, album: Path
) -> None:
    assert command("--content-hash").code == 3
    assert command("verify", "--media", "a.zarr").code == 0
    save_photo(album / "1.png", seed=77)
    os.utime(album / "2.png", ns=(0, 5))
    (album / "5.png").unlink()
    done = command("verify", "--media", "a.zarr")
    assert done.code == 1
    assert "1.png changed" in done.out
    assert "5.png no longer exists" in done.out
    assert "a.zarr: 2 of 6 media files differ" in done.out
    actual = json.loads(command("verify", "--media", "a.zarr", "--json").out)["media"]
    assert (actual["changed"], actual["vanished"], actual["touched"]) == (["1.png"], ["5.png"], 1)
    done = command()
    assert done.code == 3
    assert "1 of 6 images changed since they were encoded (1.png)" in done.err
    assert "tried 5 in" in done.out
    assert "5.png no longer exists" in command("verify", "--media", "a.zarr").out
    assert "nothing to do" in command("--changed-media", "keep").out


def test_verification_finds_media_files_that_were_moved(
    command: Command, album: Path, tmp_path: Path
) -> None:
    command()
    album.rename(tmp_path / "moved")
    assert command("verify", "--media", "a.zarr").code == 1
    done = command("verify", "--media", "a.zarr", "--data-root", str(tmp_path / "moved"))
    assert (done.code, "6 media files match" in done.out) == (0, True)


def test_a_replaced_image_that_had_failed_is_recorded_when_encoded_again(
    command: Command, album: Path
) -> None:
    command()
    save_photo(album / "3.png", seed=3)
    done = command("retry-failed", "a.zarr")
    assert (done.code, "1 of 1 failed samples encoded" in done.out) == (0, True)
    assert command("verify", "--media", "a.zarr").code == 0
    assert "nothing to do" in command().out


def test_repair_writes_the_media_table_again(command: Command) -> None:
    command()
    store = Store.open("a.zarr")
    before = file_contents(store)
    store.storage.put(store.media_table_name(0), [b"damaged"])
    assert command("verify", "a.zarr").code == 1
    assert command("verify", "--media", "a.zarr").code == 1
    repair(store)
    command()
    assert file_contents(Store.open("a.zarr")) == before
