"""Connect to a Ray cluster, or start one on this machine, and divide it among encoders."""

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from epalm.console import counted
from epalm.errors import EpalmError, MissingToolError, UsageError
from epalm.extract.planning.extract_options import ExtractOptions

if TYPE_CHECKING:
    from types import ModuleType

OBJECT_STORE_BYTES = 100_000_000
"""Shared memory of a cluster on this machine. Encoders write their shards themselves, so only
reports pass through it."""

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
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    settings = {
        "runtime_env": {"env_vars": environment} if environment else None,
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    try:
        if engine != "ray":
            ray.init(engine, **settings)
        elif os.environ.get("RAY_ADDRESS"):
            ray.init("auto", **settings)
        elif not _joined_running(ray, settings):
            _start_here(ray, settings)
    except SystemExit as stop:  # what Ray makes of SIGTERM while it connects
        raise KeyboardInterrupt from stop
    except Exception as error:  # Ray raises plain exceptions, too
        reason = str(error).strip().splitlines()[0]
        where = engine if engine != "ray" else os.environ.get("RAY_ADDRESS", "this machine")
        raise EpalmError(
            f"no Ray cluster can be used at {where} ({reason}): start one with `ray start --head`, "
            "give its address, or use --engine ray without RAY_ADDRESS to start one here; if the "
            "cluster has token authentication, set RAY_AUTH_MODE=token"
        ) from error


def _joined_running(ray: Any, settings: Mapping[str, Any]) -> bool:  # noqa: ANN401 - a module
    """Connect to the cluster that runs on this machine; False if there is none."""
    try:
        ray.init("auto", **settings)
    except ConnectionError:
        return False
    return True


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
