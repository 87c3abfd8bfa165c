"""Pipelines of Ray Data with `epalm.ray` on a cluster, whose processes die."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import epalm.ray
from epalm.api.batch_encoder import Encode
from epalm.cache.store import Store
from epalm.errors import UsageError
from epalm.extract.fill_store import run_options
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.plugins import TypedName
from tests.cache.helpers import file_contents
from tests.extract.engines.number_files import write_numbers
from tests.extract.engines.ray_cluster_process import RayCluster, ray_cluster
from tests.repository import ROOT

ray = pytest.importorskip("ray", reason="needs the extra `ray`")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ENCODER = "tests.extract.engines.fast_encoder:fast"

COUNT, SHARD, BROKEN = 2 * 64 + 22, 64, 70
"""Samples of the dataset, in three shards."""


@pytest.fixture(autouse=True, scope="module")
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epalm.cache.spec.MIN_SHARD_ROWS", SHARD)
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A cluster to which this process is connected."""
    with ray_cluster(tmp_path_factory.mktemp("cluster") / "log.txt") as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            ray.init(running.address, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield running
        ray.shutdown()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("numbers"), COUNT, broken=BROKEN)


@pytest.fixture(scope="module")
def by_command(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store that `epalm-extract` makes."""
    out = tmp_path_factory.mktemp("command") / "s.zarr"
    options = ExtractOptions(
        encoder=TypedName(ENCODER),
        dataset=str(dataset),
        out=str(out),
        workers=0,
        device="cpu",
        quiet=True,
    )
    return run_options(options).store


def encode(samples: Any, kind: type[Encode] = Encode) -> Any:  # noqa: ANN401 - Ray's types
    """The step of the guide, with batches that do not end where shards do."""
    return samples.map_batches(
        kind,
        fn_constructor_kwargs={"encoder": ENCODER, "device": "cpu"},
        batch_size=24,
        concurrency=1,
        num_cpus=0.5,
    )


def test_a_pipeline_makes_the_store_of_the_command(
    cluster: RayCluster, dataset: Path, tmp_path: Path, by_command: Store
) -> None:
    out = str(tmp_path / "s.zarr")
    for missing in (3, 0):  # the second time there is nothing to do
        sink = epalm.ray.StoreDatasink(ENCODER, dataset, out=out, device="cpu")
        assert len(Store.open(out).missing_shards()) == missing
        sink.write_from(encode(sink.samples()))
        assert file_contents(Store.open(out)) == file_contents(by_command)


def test_processes_that_die_leave_the_same_store(
    cluster: RayCluster, dataset: Path, tmp_path: Path, by_command: Store
) -> None:
    from tests.api.dying_steps import DyingEncode, DyingSink

    for encoder, sink_type in ((DyingEncode, epalm.ray.StoreDatasink), (Encode, DyingSink)):
        out = str(tmp_path / f"{encoder.__name__}.zarr")
        sink = sink_type(ENCODER, dataset, out=out, device="cpu")
        cluster.gate.touch()
        sink.write_from(encode(sink.samples(), encoder))
        assert not cluster.gate.exists(), "no process has died"
        assert file_contents(Store.open(out)) == file_contents(by_command)


def test_a_pipeline_that_drops_rows_fails_and_the_right_one_goes_on(
    cluster: RayCluster, dataset: Path, tmp_path: Path, by_command: Store
) -> None:
    out = str(tmp_path / "s.zarr")
    sink = epalm.ray.StoreDatasink(ENCODER, dataset, out=out, device="cpu")
    dropped = encode(sink.samples()).filter(lambda row: row["row"] != 100)
    with pytest.raises(UsageError, match=r"a block has 64 rows from row 64 on, expected the 64"):
        sink.write_from(dropped)
    missing = Store.open(out).missing_shards()
    assert missing in ([0, 1, 2], [1, 2])
    again = epalm.ray.StoreDatasink(ENCODER, dataset, out=out, device="cpu")
    again.write_from(encode(again.samples()))
    assert file_contents(Store.open(out)) == file_contents(by_command)


def test_bytes_of_files_become_the_features_of_the_store(
    cluster: RayCluster, dataset: Path, by_command: Store
) -> None:
    files = ray.data.read_binary_files(
        [str(dataset / f"{row}.png") for row in range(BROKEN + 2)], include_paths=True
    )
    columns = {"column": "bytes", "key": "path"}
    encoded = files.map_batches(
        epalm.ray.Encode,
        fn_constructor_kwargs={"encoder": ENCODER, "device": "cpu", **columns},
        batch_size=24,
        concurrency=1,
        num_cpus=0.5,
    )
    rows = {Path(row["path"]).name: row for row in encoded.take_all()}
    assert len(rows) == BROKEN + 2
    expected = np.concatenate([by_command.load_shard(0), by_command.load_shard(1)])
    for number in range(BROKEN + 2):
        row = rows[f"{number}.png"]
        assert bool(row["error"]) == (number == BROKEN)
        if number != BROKEN:
            assert np.array_equal(row["features"], expected[number])
