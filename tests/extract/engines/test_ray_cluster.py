import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from epalm.errors import EpalmError, MissingToolError, UsageError
from epalm.extract.engines.ray_cluster import (
    WorkerResources,
    check_engine,
    choose_resources,
    connected,
    import_ray,
)
from epalm.extract.planning.extract_options import ExtractOptions

GPU_CLUSTER = {"CPU": 64.0, "GPU": 8.0}


def test_an_encoder_takes_a_whole_gpu_and_its_part_of_the_cores() -> None:
    assert choose_resources(ExtractOptions(), GPU_CLUSTER) == WorkerResources(cpus=8, gpus=1.0)


def test_two_encoders_share_a_gpu_and_its_cores() -> None:
    half = choose_resources(ExtractOptions(gpus_per_worker=0.5), GPU_CLUSTER)
    assert half == WorkerResources(cpus=4, gpus=0.5)
    assert half.fitting(GPU_CLUSTER) == 16


def test_without_gpus_an_encoder_takes_one_core_each() -> None:
    for options, cluster in (
        (ExtractOptions(), {"CPU": 6.0}),
        (ExtractOptions(device="cpu"), {"CPU": 6.0, "GPU": 2.0}),
    ):
        resources = choose_resources(options, cluster)
        assert resources == WorkerResources(cpus=1, gpus=0.0)
        assert resources.fitting(cluster) == 6


def test_given_cores_bound_the_number_of_encoders() -> None:
    resources = choose_resources(ExtractOptions(cpus_per_worker=4), {"CPU": 10.0})
    assert resources.fitting({"CPU": 10.0}) == 2


def test_gpus_for_encoders_on_the_cpu_are_refused() -> None:
    with pytest.raises(UsageError, match="--device cpu uses no GPU"):
        choose_resources(ExtractOptions(device="cpu", gpus_per_worker=1), GPU_CLUSTER)


@pytest.mark.parametrize("engine", ["spark", "ray:", "ray://", "Ray", "rayon"])
def test_another_engine_is_refused(engine: str) -> None:
    with pytest.raises(UsageError, match=re.escape("expected ray, or ray://<host>:<port>")):
        check_engine(ExtractOptions(engine=engine))


@pytest.mark.parametrize("engine", ["ray", "ray://head:10001"])
def test_decoding_in_the_encoders_process_is_refused(engine: str) -> None:
    check_engine(ExtractOptions(engine=engine))
    with pytest.raises(UsageError, match="leave out --workers 0"):
        check_engine(ExtractOptions(engine=engine, workers=0))


@pytest.fixture
def inits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The addresses that Ray is given, without a cluster."""
    addresses: list[str] = []
    stand_in = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda address, **settings: addresses.append(address),
        shutdown=lambda: None,
        cluster_resources=lambda: {"CPU": 2.0},
    )
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    yield addresses


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """Where `ray start` notes the address of its cluster."""
    return tmp_path / "ray" / "ray_current_cluster"


def test_without_a_cluster_of_ray_start_one_is_started_here(inits: list[str]) -> None:
    with connected("ray"):
        assert inits == ["local"]


def test_the_cluster_of_ray_start_is_joined(inits: list[str], note: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        note.write_text(f"{address}\n")
        with connected("ray"):
            assert inits == [address]


@pytest.mark.parametrize("text", ["closed", "nonsense", ""])
def test_a_cluster_that_has_ended_without_ray_stop_is_refused_at_once(
    inits: list[str], note: Path, text: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    note.write_text(f"127.0.0.1:{port}" if text == "closed" else text)
    message = re.escape("run `ray stop` to forget it")
    with pytest.raises(EpalmError, match=message), connected("ray"):
        pass
    assert not inits


def test_given_addresses_come_before_the_note(
    inits: list[str], note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note.write_text("127.0.0.1:1")
    with connected("ray://head:10001"):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with connected("ray"):
        assert inits == ["ray://head:10001", "head:6379"]


def test_without_ray_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingToolError, match=re.escape("pip install 'epalm[ray]'")):
        import_ray()
