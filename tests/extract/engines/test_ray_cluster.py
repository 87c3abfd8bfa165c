import re
import sys

import pytest

from epalm.errors import MissingToolError, UsageError
from epalm.extract.engines.ray_cluster import (
    WorkerResources,
    check_engine,
    choose_resources,
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


def test_without_ray_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingToolError, match=re.escape("pip install 'epalm[ray]'")):
        import_ray()
