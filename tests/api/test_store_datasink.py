"""`epalm.ray.StoreDatasink` without a cluster: its write tasks are called as Ray Data does.

`test_ray_data.py` runs whole pipelines on a cluster.
"""

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from epalm.api.batch_encoder import Encode
from epalm.api.shard_tables import FileStates, sample_tables
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, StoreError, UsageError
from epalm.extract.fill_store import run_options
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.plugins import TypedName
from tests.cache.helpers import file_contents
from tests.extract.engines.number_files import write_numbers

if TYPE_CHECKING:
    from epalm.api.store_datasink import StoreDatasink

pytest.importorskip("ray", reason="needs the extra `ray`")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ENCODER = "tests.extract.engines.fast_encoder:fast"

COUNT, SHARD = 2 * 64 + 22, 64
"""Samples of the dataset, in three shards."""


@pytest.fixture(autouse=True, scope="module")
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epalm.cache.spec.MIN_SHARD_ROWS", SHARD)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("numbers"), COUNT, broken=70)


def options(dataset: Path, out: Path, *, content_hash: bool = False) -> ExtractOptions:
    return ExtractOptions(
        encoder=TypedName(ENCODER),
        dataset=str(dataset),
        out=str(out),
        workers=0,
        device="cpu",
        quiet=True,
        content_hash=content_hash,
    )


@pytest.fixture(scope="module")
def by_command(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store that `epalm-extract` makes."""
    return run_options(options(dataset, tmp_path_factory.mktemp("command") / "s.zarr")).store


@pytest.fixture
def sink(dataset: Path, tmp_path: Path) -> "StoreDatasink":
    return make_sink(dataset, tmp_path / "s.zarr")


def make_sink(dataset: Path, out: Path, **settings: object) -> "StoreDatasink":
    import epalm.ray

    return epalm.ray.StoreDatasink(ENCODER, dataset, out=str(out), device="cpu", **settings)


def encoded(sink: "StoreDatasink", **settings: object) -> list[dict[str, Any]]:
    """The blocks that a pipeline passes on, one for each missing shard."""
    store = Store.open(sink.location)
    states = FileStates(sink._root, store.spec.content_hash)
    encode = Encode(ENCODER, device="cpu", **settings)
    tables = [table for table in sample_tables(sink._target) if len(table)]
    return [encode(states(columns(table))) for table in tables]


def columns(table: pa.Table) -> dict[str, Any]:
    """A batch as Ray Data makes it of a table."""
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def blocks(batches: list[dict[str, Any]]) -> list[Any]:
    """The blocks that Ray Data makes of batches."""
    from ray.data.block import BlockAccessor

    return [BlockAccessor.batch_to_block(batch) for batch in batches]


@pytest.mark.parametrize("content_hash", [False, True])
def test_the_store_is_that_of_the_command(
    dataset: Path, tmp_path: Path, *, content_hash: bool
) -> None:
    expected = run_options(options(dataset, tmp_path / "once.zarr", content_hash=content_hash))
    sink = make_sink(dataset, tmp_path / "s.zarr", content_hash=content_hash)
    assert sink.fingerprint == expected.store.spec.fingerprint
    batches = encoded(sink)
    assert [len(batch["key"]) for batch in batches] == [SHARD, SHARD, COUNT - 2 * SHARD]
    task = pickle.loads(pickle.dumps(sink))
    assert task.write(blocks(batches[1:]), None) == 2
    sink.on_write_complete(None)
    assert Store.open(sink.location).missing_shards() == [0]
    assert task.write(blocks(batches[:1]), None) == 1
    sink.on_write_complete(None)
    store = Store.open(sink.location)
    assert file_contents(store) == file_contents(expected.store)
    assert list(store.commit_record(1).errors) == ["70.png"]


def test_a_write_task_that_is_run_again_writes_nothing_twice(
    sink: "StoreDatasink", by_command: Store
) -> None:
    batches = encoded(sink)
    assert sink.write(blocks(batches), None) == 3
    sink.on_write_complete(None)
    assert sink.write(blocks(batches), None) == 0
    sink.on_write_complete(None)
    assert file_contents(Store.open(sink.location)) == file_contents(by_command)


def test_a_task_that_fails_is_run_again_by_the_next_pipeline(
    sink: "StoreDatasink", dataset: Path, by_command: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = encoded(sink)
    with monkeypatch.context() as patch:
        write = Store.write_shard

        def fail(self: Store, shard: int, *arguments: object, **named: object) -> None:
            if shard == 1:
                raise StoreError("the disk is full")
            write(self, shard, *arguments, **named)  # type: ignore[arg-type]

        patch.setattr(Store, "write_shard", fail)
        with pytest.raises(StoreError, match="the disk is full"):
            sink.write(blocks(batches), None)
    store = Store.open(sink.location)
    assert store.missing_shards() == [1, 2]
    again = make_sink(dataset, Path(sink.location))
    assert [table["row"][0].as_py() for table in sample_tables(again._target)] == [64, 128]
    assert again.write(blocks(encoded(again)), None) == 2
    again.on_write_complete(None)
    assert file_contents(Store.open(sink.location)) == file_contents(by_command)


def test_half_by_the_command_and_half_by_a_pipeline_is_the_same_store(
    dataset: Path, tmp_path: Path, by_command: Store
) -> None:
    out = tmp_path / "s.zarr"
    sink = make_sink(dataset, out)
    assert sink.write(blocks(encoded(sink)[:1]), None) == 1
    filled = run_options(options(dataset, out))
    assert filled.report.encoded == COUNT - SHARD
    assert file_contents(filled.store) == file_contents(by_command)
    finished = make_sink(dataset, out)
    assert [len(table) for table in sample_tables(finished._target)] == [0]


def test_a_file_that_is_replaced_after_it_was_decoded_has_changed(
    dataset: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "numbers"))
    sink = make_sink(copy, tmp_path / "s.zarr")
    batches = encoded(sink)
    (copy / "130.png").write_text("1000")
    os.utime(copy / "130.png", ns=(0, 10**18))
    sink.write(blocks(batches), None)
    sink.on_write_complete(None)
    assert Store.open(sink.location).load_shard(2)[2, 0, 0, 0] == 131
    filled = run_options(options(copy, tmp_path / "s.zarr"))
    assert filled.report.encoded == COUNT - 2 * SHARD
    assert filled.store.load_shard(2)[2, 0, 0, 0] == 1001


def change(batch: dict[str, Any], kind: str) -> dict[str, Any]:
    """A block that is not what `samples` and `Encode` make."""
    rows = {
        "part": list(range(SHARD - 1)),
        "reversed": list(range(SHARD))[::-1],
        "twice": [0, *range(SHARD - 1)],
    }.get(kind, list(range(SHARD)))
    changed = {name: np.asarray(values)[rows] for name, values in batch.items()}
    if kind == "keys":
        changed["key"] = changed["key"][::-1]
    return changed


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("part", r"a block has 63 rows from row 0 on, expected the 64 rows 0 to 63 of shard 0"),
        ("reversed", r"a block has 64 rows from row 63 on.*without dropping, adding or sorting"),
        ("twice", r"a block has 64 rows from row 0 on, expected the 64 rows 0 to 63"),
        ("keys", r"shard 0: the keys are not those of the rows of samples\(\)"),
    ],
)
def test_a_block_that_is_no_shard_is_refused(
    sink: "StoreDatasink", kind: str, message: str
) -> None:
    first = change(encoded(sink)[0], kind)
    with pytest.raises(UsageError, match=message):
        sink.write(blocks([first]), None)
    assert Store.open(sink.location).missing_shards() == [0, 1, 2]


def test_features_of_other_settings_are_refused(sink: "StoreDatasink") -> None:
    other = encoded(sink, views=2)
    with pytest.raises(CacheMismatchError, match=r"made with other settings.*same precision"):
        sink.write(blocks(other), None)
    assert Store.open(sink.location).missing_shards() == [0, 1, 2]


def test_samples_without_features_are_refused(sink: "StoreDatasink") -> None:
    table = next(iter(sample_tables(sink._target)))
    with pytest.raises(UsageError, match="has no column 'features', only key, row, path"):
        sink.write([table], None)
