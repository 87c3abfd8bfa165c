"""The program's side of `--engine ray`, with a stand-in for Ray and real encoders.

The drills of `test_ray_drills.py` run the same on a real cluster.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, EpalmError, Stopped, UnfinishedStoreError
from epalm.extract.decoding.decode_pool import IMPORTS
from epalm.extract.engines import ray_engine, ray_run, shard_worker
from epalm.extract.engines.ray_engine import fill_store_on_ray
from epalm.extract.engines.shard_queue import MAX_LOSSES
from epalm.extract.engines.worker_messages import OpenedStore
from epalm.extract.fill_store import run_options
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.process_shards import ProcessShard
from epalm.plugins import TypedName
from tests.cache.helpers import file_contents
from tests.extract.engines.fake_ray import FakeRay
from tests.extract.engines.fast_loader import load_number
from tests.extract.engines.number_files import write_numbers

Use = Callable[[FakeRay], FakeRay]
"""Lets runs connect to a stand-in."""

COUNT = 5 * 64 - 20
"""Samples of the dataset, in five shards."""

ENCODER = TypedName("tests.extract.engines.fast_encoder:fast")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("numbers"), COUNT, broken=70)


def options(dataset: Path, out: Path, **changes: object) -> ExtractOptions:
    settings = {"encoder": ENCODER, "dataset": str(dataset), "out": str(out), "quiet": True}
    merged: dict[str, Any] = {**settings, "workers": 1, "device": "cpu", **changes}
    return ExtractOptions(**merged)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epalm.cache.spec.MIN_SHARD_ROWS", 64)
    # All processes are this one, whose log is the program's.
    monkeypatch.setattr(shard_worker._Messages, "collect", lambda self, level: None)
    monkeypatch.setattr(ray_run, "POLL_SECONDS", 0)
    monkeypatch.setitem(IMPORTS, "image", load_number.__module__)  # decoding processes start sooner


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    def use_fake(fake: FakeRay) -> FakeRay:
        @contextmanager
        def connected(engine: str) -> Iterator[FakeRay]:
            yield fake

        monkeypatch.setattr(ray_engine, "connected", connected)
        return fake

    return use_fake


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a store that one process has filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epalm.cache.spec.MIN_SHARD_ROWS", 64)
        filled = run_options(options(dataset, tmp_path_factory.mktemp("one") / "s.zarr"))
    assert filled.store.spec.shards == 5
    return file_contents(filled.store)


def test_the_store_is_that_of_one_process(
    dataset: Path, tmp_path: Path, use: Use, undisturbed: dict[str, bytes]
) -> None:
    fake = use(FakeRay())
    filled = run_options(options(dataset, tmp_path / "s.zarr", engine="ray"))
    assert file_contents(filled.store) == undisturbed
    report = filled.report
    assert (report.records, report.encoded, report.failed, report.missing) == (COUNT, COUNT, 1, 0)
    assert len(fake.actors) == 2
    assert all(actor.dead for actor in fake.actors)
    again = fill_store_on_ray(options(dataset, tmp_path / "s.zarr", engine="ray"))
    assert (again.report.encoded, again.report.failed) == (0, 1)


def test_shards_of_lost_processes_are_encoded_again(
    dataset: Path,
    tmp_path: Path,
    use: Use,
    undisturbed: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = use(FakeRay(losses={0: 1, 2: 0}, lost_starts=[1]))
    filled = fill_store_on_ray(options(dataset, tmp_path / "s.zarr", engine="ray"))
    assert file_contents(filled.store) == undisturbed
    assert len(fake.actors) >= 4
    lost = [record.message for record in caplog.records if "was lost" in record.message]
    assert [re.sub(r".*: (\d)", r"\1", line) for line in lost] == [
        "0 shards will be encoded again",
        "1 shard will be encoded again",
    ]


def test_half_by_a_shell_and_half_by_ray_is_the_same_store(
    dataset: Path, tmp_path: Path, use: Use, undisturbed: dict[str, bytes]
) -> None:
    use(FakeRay())
    given = options(dataset, tmp_path / "s.zarr")
    half = run_options(given, process_shard=ProcessShard(0, 2))
    assert half.report.missing == 2
    filled = run_options(options(dataset, tmp_path / "s.zarr", engine="ray"))
    assert file_contents(filled.store) == undisturbed
    assert filled.report.encoded == 2 * 64


def test_a_changed_file_is_encoded_again_also_when_its_process_is_lost(
    dataset: Path, tmp_path: Path, use: Use
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "numbers"))
    given = options(copy, tmp_path / "s.zarr")
    run_options(given)
    (copy / "130.png").write_text("1000")
    use(FakeRay(losses={0: 1}))
    filled = run_options(replace(given, engine="ray"))
    once = run_options(replace(given, out=str(tmp_path / "once" / "s.zarr")))
    assert file_contents(filled.store) == file_contents(once.store)
    assert filled.store.load_shard(2)[2, 0, 0, 0] == 1001
    assert filled.report.encoded == 64


def test_a_shard_that_ends_every_process_is_given_up_after_the_others(
    dataset: Path, tmp_path: Path, use: Use
) -> None:
    use(FakeRay(losses=dict.fromkeys(range(4, 4 + MAX_LOSSES), 0)))
    with pytest.raises(UnfinishedStoreError, match=r"shard 4 lost 5 encoders.*killed on purpose"):
        fill_store_on_ray(options(dataset, tmp_path / "s.zarr", engine="ray", engine_workers=1))
    assert Store.open(tmp_path / "s.zarr").missing_shards() == [4]


def test_processes_that_never_start_end_the_run(dataset: Path, tmp_path: Path, use: Use) -> None:
    use(FakeRay(lost_starts=range(9)))
    with pytest.raises(EpalmError, match=r"no encoder could be started.*install the same version"):
        fill_store_on_ray(options(dataset, tmp_path / "s.zarr", engine="ray"))


def test_an_error_of_an_encoder_is_that_of_the_command(
    dataset: Path, tmp_path: Path, use: Use
) -> None:
    use(FakeRay())
    run_options(options(dataset, tmp_path / "s.zarr", engine="ray"))
    with pytest.raises(CacheMismatchError, match="fingerprint"):
        run_options(options(dataset, tmp_path / "s.zarr", engine="ray", views=2))


def test_a_signal_stops_the_run_and_the_same_call_resumes(
    dataset: Path,
    tmp_path: Path,
    use: Use,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = use(FakeRay())
    with monkeypatch.context() as patch:
        patch.setattr(ray_run.RayRun, "_show", interrupt)
        with pytest.raises(Stopped, match="of 5 shards to do: run the same command again"):
            run_options(options(dataset, tmp_path / "s.zarr", engine="ray"))
    assert all(actor.dead for actor in fake.actors)
    filled = run_options(options(dataset, tmp_path / "s.zarr", engine="ray"))
    assert file_contents(filled.store) == undisturbed


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_machine_that_lists_other_samples_is_refused(
    dataset: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = shard_worker.ShardWorker.open

    def partly(self: shard_worker.ShardWorker, known: OpenedStore | None) -> OpenedStore:
        if known:
            self.setup = shard_worker.WorkerSetup(
                options(dataset, tmp_path / "s.zarr", limit=COUNT - 1), None, str(tmp_path)
            )
        return join(self, known)

    use(FakeRay())
    monkeypatch.setattr(shard_worker.ShardWorker, "open", partly)
    with pytest.raises(CacheMismatchError, match=r"1 of its samples are absent, expected 0"):
        run_options(options(dataset, tmp_path / "s.zarr", engine="ray"))
