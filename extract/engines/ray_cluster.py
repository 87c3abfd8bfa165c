"""Connect to a Ray cluster, or start one on this machine, and divide it among encoders."""

import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epalm.console import counted
from epalm.errors import EpalmError, MissingToolError, UsageError
from epalm.extract.planning.extract_options import ExtractOptions

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 100_000_000
"""Shared memory of a cluster on this machine. Encoders write their shards themselves, so only
reports pass through it."""

CONNECT_SECONDS = 5
"""Time in which a cluster has to accept a connection; Ray would wait for 20 seconds or more."""

START_ATTEMPTS = 3
"""On a busy machine Ray's processes may need longer than the 30 seconds that Ray gives them; the
next attempt finds their files in memory."""

PASSED_ON = ("EPALM_DATA_ROOT", "HF_HUB_OFFLINE")
"""Environment variables of the program that its encoder processes get, if they are set."""


@dataclass(frozen=True)
class WorkerResources:
    """What Ray reserves for an encoder process.

    Attributes:
        cpus: number of cores.
        gpus: number of GPUs, which may be a fraction.
    """

    cpus: int
    gpus: float

    def __str__(self) -> str:
        """E.g. "1 core and 0.5 GPU"."""
        cores = counted(self.cpus, "core")
        return f"{cores} and {self.gpus:g} GPU" if self.gpus else cores

    def fitting(self, total: Mapping[str, float]) -> int:
        """Number of processes that fit into the resources of a cluster."""
        by_cpus = total.get("CPU", 0) / self.cpus
        return int(min(by_cpus, total.get("GPU", 0) / self.gpus) if self.gpus else by_cpus)


def check_engine(options: ExtractOptions) -> None:
    """Refuse an engine that does not exist, before anything is imported.

    Raises:
        UsageError: --engine has another form, or does not go with another option.
    """
    if not re.fullmatch(r"ray(://\S+)?", options.engine):
        raise UsageError(
            f"--engine {options.engine!r}: expected ray, or ray://<host>:<port> for the Ray Client "
            "server of a cluster"
        )
    if options.workers == 0:
        raise UsageError(
            "--workers 0 decodes in the encoder's process, where a decoder that hangs or crashes "
            "ends it: leave out --workers 0 with --engine"
        )


def import_ray() -> "ModuleType":
    """The module of Ray.

    Raises:
        MissingToolError: it is not installed.
    """
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise MissingToolError(
            f"Ray cannot be imported ({error}): install it with `pip install 'epalm[ray]'`"
        ) from error


@contextmanager
def connected(engine: str) -> Iterator["ModuleType"]:
    """Connect to a cluster while the block runs: that of the address, a running one, or a new one.

    A connection that the program has made before is used and stays open.

    Args:
        engine: "ray", or "ray://<host>:<port>".

    Raises:
        MissingToolError: Ray is not installed.
        EpalmError: there is no cluster at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    stop = signal.getsignal(signal.SIGTERM)
    try:
        _connect(ray, engine)
        # Ray ends the program on SIGTERM, without its clean-up.
        signal.signal(signal.SIGTERM, stop)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, engine: str) -> None:  # noqa: ANN401 - a module
    address = engine if engine != "ray" else os.environ.get("RAY_ADDRESS") or _running_here()
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    settings = {
        "runtime_env": {"env_vars": environment} if environment else None,
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    try:
        if address is None:
            _start_here(ray, settings)
        else:
            ray.init(address, **settings)
    except SystemExit as stop:  # what Ray makes of SIGTERM while it connects
        raise KeyboardInterrupt from stop
    except Exception as error:  # Ray raises plain exceptions, too
        reason = str(error).strip().splitlines()[0]
        raise EpalmError(
            f"no Ray cluster can be used at {address or 'this machine'} ({reason}): start one with "
            "`ray start --head`, give its address, or use --engine ray without RAY_ADDRESS to "
            "start one here; if the cluster has token authentication, set RAY_AUTH_MODE=token"
        ) from error
    cores = ray.cluster_resources().get("CPU", 0)
    logger.info("Ray cluster %s: %s", address or "of this machine", counted(int(cores), "core"))


def _running_here() -> str | None:
    """The address of the cluster that `ray start` has started on this machine, or joined.

    A cluster that another program has started for itself is none: it ends with that program.

    Raises:
        EpalmError: it does not listen any more.
    """
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)
    folder = next((os.environ[name] for name in names if os.environ.get(name)), "/tmp")
    note = Path(folder, "ray", "ray_current_cluster")
    if not note.exists():
        return None
    address = note.read_text().strip()
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EpalmError(
            f"this machine belongs to a Ray cluster at {address!r} ({note}), which does not answer "
            f"({error}): run `ray stop` to forget it, start it again, or set RAY_ADDRESS"
        ) from error
    return address


def _start_here(ray: Any, settings: Mapping[str, Any]) -> None:  # noqa: ANN401 - a module
    """Start a cluster of this machine alone, which ends with the program."""
    settings = {
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        **settings,
    }
    for _ in range(START_ATTEMPTS - 1):
        try:
            ray.init("local", **settings)
            return
        except Exception:  # noqa: BLE001 - Ray raises a plain one after 30 seconds
            ray.shutdown()
    ray.init("local", **settings)


def choose_resources(options: ExtractOptions, total: Mapping[str, float]) -> WorkerResources:
    """What each encoder process gets.

    Args:
        options: --gpus-per-worker, --cpus-per-worker and --device.
        total: resources of the cluster, as Ray reports them.

    Raises:
        UsageError: more GPUs are wanted than there are.
    """
    gpus = options.gpus_per_worker
    if gpus is None:
        gpus = float(total.get("GPU", 0) >= 1 and options.device != "cpu")
    if options.device == "cpu" and gpus:
        raise UsageError(f"--device cpu uses no GPU: leave out --gpus-per-worker {gpus:g}")
    cpus = options.cpus_per_worker or 1
    if gpus and options.cpus_per_worker is None and total.get("GPU", 0):
        cpus = max(1, int(total.get("CPU", 0) / total["GPU"] * gpus))
    return WorkerResources(cpus, gpus)
