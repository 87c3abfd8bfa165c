"""A server with a small run, its blind control and its store."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from epalm.ask.adapters.blind_control import load_blind_control
from epalm.ask.run_model import Model, load
from epalm.model.checkpoints.run_record import RunRecord
from epalm.serve.engine.neighbors import NeighborIndex
from epalm.serve.engine.service import Limits, Service
from tests.ask.small_runs import SmallRun, small_run
from tests.serve.running import running_server


@pytest.fixture(scope="session")
def run() -> Iterator[SmallRun]:
    made = small_run("image")
    yield made
    shutil.rmtree(made.folder.out, ignore_errors=True)
    small_run.cache_clear()


@pytest.fixture(scope="session")
def blind_run(run: SmallRun) -> Path:
    """The same adapter under the record of a blind control."""
    folder = run.run.with_name("control")
    if not folder.exists():
        shutil.copytree(run.run, folder, ignore=shutil.ignore_patterns("eval"))
        replace(RunRecord.load(folder), name="control", blind=True).save(folder)
    return folder


@pytest.fixture(scope="session")
def reference(run: SmallRun) -> Model:
    """The run as Python users load it, for comparisons."""
    return load(run.run, device="cpu")


@pytest.fixture(scope="session")
def service(run: SmallRun, blind_run: Path) -> Service:
    model = load(run.run, device="cpu")
    blind = load_blind_control(model.loaded, str(blind_run), "cpu")
    index = NeighborIndex.read(
        model.record.features, model.record, model.modality, data_root=run.folder.data
    )
    return Service(model, Limits(upload_bytes=2_000_000), blind, index)


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[httpx.Client]:
    with running_server(service) as running:
        yield running
