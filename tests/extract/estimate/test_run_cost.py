"""Objects, requests, hours, prices and break-even, against numbers worked out by hand."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from epalm.cache.formats.store_format import format_of
from epalm.cache.maintenance.grow import open_to_extract
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.fsspec_storage import FsspecStorage
from epalm.extract.estimate.gpu_speeds import GPU_SPEEDS
from epalm.extract.estimate.run_cost import (
    Requests,
    break_even_epochs,
    count_objects,
    count_requests,
    gpu_costs,
    price_per_million,
)
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from tests.extract.helpers import CountingEncoder, numbered

OPERATIONS = {"pipe_file": "put", "info": "head", "cat_file": "get", "find": "list"}


def store_spec(count: int, shard_rows: int = 64) -> StoreSpec:
    return StoreSpec(
        dataset="numbers",
        encoder="counting",
        fingerprint={"code": "test"},
        layers=tuple(range(1, 7)),
        width=4,
        count=count,
        shard_rows=shard_rows,
    )


def test_a_hundred_million_samples_in_shards_of_32768() -> None:
    spec = store_spec(100_000_000, 32_768)  # 3051.76 shards
    zarr, hdf5 = (format_of(f"s3://bucket/{name}") for name in ("s.zarr", "s.h5"))
    assert spec.shards == 3052
    assert count_objects(spec, zarr) == 8 + 4 * 3052
    assert count_objects(spec, hdf5) == 3 + 3 * 3052
    whole = count_requests(spec, zarr, new_rows=spec.count, processes=100)
    assert whole == Requests(
        put=8 + 4 * 3052, head=100 * 17 + 2 * 3052, get=100 * (2 + 3052), list=100 * 8 * 4
    )
    rest = count_requests(spec, zarr, new_rows=32_769, processes=1)
    assert rest == Requests(put=1 + 4 * 2, head=17 + 2 * 2, get=2 + 3052, list=8 * 4)


class CountedFiles:
    """A file system of fsspec that counts the operations that are requests."""

    def __init__(self, files: Any, counted: Counter[str]) -> None:  # noqa: ANN401
        self._files, self._counted = files, counted

    def cat(self, paths: list[str], **options: Any) -> Any:  # noqa: ANN401
        self._counted["get"] += len(paths)
        return self._files.cat(paths, **options)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name in OPERATIONS:
            self._counted[OPERATIONS[name]] += 1
        return getattr(self._files, name)


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_real_run_makes_the_requests_that_were_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    counted: Counter[str] = Counter()
    original = FsspecStorage.__init__

    def connect(storage: FsspecStorage, url: str) -> None:
        original(storage, url)
        storage._files = CountedFiles(storage._files, counted)

    monkeypatch.setattr(FsspecStorage, "__init__", connect)
    items, spec, url = numbered(64 * 6), store_spec(64 * 6), f"memory:/{tmp_path}/{name}"
    store, _ = open_to_extract(url, spec, [item.key for item in items])
    extract(CountingEncoder(), items, store, options=RunOptions(64, 0, quiet=True))
    expected = count_requests(spec, store.format, new_rows=spec.count, processes=1)
    assert counted["put"] == expected.put == count_objects(spec, store.format)
    assert counted["put"] == len(store.storage.names("")) + (name == "s.h5")
    for kind in ("head", "get", "list"):
        assert counted[kind] == pytest.approx(getattr(expected, kind), abs=3)


def test_the_speed_of_each_gpu_follows_from_its_source() -> None:
    """One sample of ViT-B/16 at 224 pixels, 2 x 17.58 GFLOP, for an hour's worth of samples."""
    costs = {one.gpu: one for one in gpu_costs(1_000_000, 35.16e9, price_per_hour=2.0)}
    assert costs["RTX 4090"].per_second == 2843.0  # as timm measured
    assert costs["RTX 4090"].hours == pytest.approx(1e6 / 2843 / 3600)
    # 32 images of 2 x 55.54 GFLOP in 43.91 ms are 80.95 TFLOP/s: 2302 images of 35.16 GFLOP
    assert costs["A100"].per_second == pytest.approx(2302.4, abs=0.1)
    assert costs["T4"].per_second == pytest.approx(384.1, abs=0.1)
    assert costs["H100 SXM"].per_second == pytest.approx(2302.4 * 989 / 312, abs=1)
    assert costs["L4"].per_second == pytest.approx(384.1 * 121 / 65, abs=1)
    assert costs["A100"].per_million == pytest.approx(2 / (2302.4 * 3600) * 1e6, rel=1e-4)
    assert {one.gpu for one in costs.values() if not one.measured} == {"L4", "H100 SXM", "H200"}
    assert all(speed.flops_per_second < speed.peak for speed in GPU_SPEEDS)


def test_decoding_needs_as_many_processes_as_keep_up_with_the_gpu() -> None:
    costs = {one.gpu: one for one in gpu_costs(1000, 35.16e9, decode_seconds=0.005)}
    assert costs["RTX 4090"].decoders == 14.2  # 2843 images/s x 5 ms
    assert costs["RTX 4090"].per_million is None


def test_the_price_of_a_million_samples() -> None:
    # 100 samples per second: a million take 10,000 s, which is 2.78 hours at 3.60
    assert price_per_million(100.0, 3.6) == pytest.approx(10.0)
    assert price_per_million(100.0, 0.0) == 0


def test_a_store_pays_once_the_saved_time_equals_the_time_that_it_took() -> None:
    # 1000 views at 10 ms take 10 s. An epoch of 4000 examples takes 40 s without the store, and
    # 4 s with it at 1 ms per read: 36 s are saved per epoch, so 10/36 of an epoch pays.
    epochs = break_even_epochs(1000, 4000, encode_seconds=0.010, read_seconds=0.001)
    assert epochs == pytest.approx(10 / 36)
    assert break_even_epochs(142, 71, encode_seconds=0.010, read_seconds=0.0) == 2.0
    assert break_even_epochs(1000, 4000, encode_seconds=0.001, read_seconds=0.002) is None
