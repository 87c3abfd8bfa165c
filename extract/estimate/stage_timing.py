"""Timing of the stages of an extraction: decode, transform, encode and write."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from epalm.cache.create_store import create_store
from epalm.cache.spec import fit_shard_rows
from epalm.console import byte_size
from epalm.errors import MediaError, UsageError
from epalm.extract.decoding.sample_loader import TwoStageLoader
from epalm.extract.planning.extraction_plan import Plan
from epalm.extract.run_extraction import encode

MAX_SAMPLES = 256
"""Largest number of samples that are decoded and transformed."""

SECONDS = 20.0
"""Time limit of decoding and transforming; encoding takes a quarter of it."""


@dataclass(frozen=True)
class Stage:
    """The time of one stage.

    Attributes:
        name: name of the stage.
        seconds: time per view of a sample.
        per_second: views per second of one process.
        note: conditions of the measurement.
    """

    name: str
    seconds: float
    per_second: float
    note: str


def measure(plan: Plan) -> list[Stage]:
    """Time the stages one after the other on the first samples; only a temporary file is written.

    Raises:
        MediaError: none of the first samples can be decoded.
        UsageError: the encoder's loader does not separate decoding and transforming.
    """
    decode, transform, inputs = _load(plan)
    return [decode, transform, _encode(plan, inputs), _write(plan)]


def table(stages: Sequence[Stage]) -> Table:
    """The stages, with their fraction of the time of one process that runs all of them."""
    total = sum(stage.seconds for stage in stages)
    rows = Table("stage", "ms each", "per second", "share", "measured on")
    for stage in stages:
        rows.add_row(
            stage.name,
            f"{1000 * stage.seconds:.2f}",
            f"{stage.per_second:.1f}",
            f"{100 * stage.seconds / total:.1f} %",
            stage.note,
        )
    return rows


def as_json(stages: Sequence[Stage]) -> list[dict[str, object]]:
    """The stages for --json."""
    return [asdict(stage) for stage in stages]


def _load(plan: Plan) -> tuple[Stage, Stage, list[NDArray[Any]]]:
    load = plan.encoder.load
    if not isinstance(load, TwoStageLoader):
        raise UsageError(f"--benchmark needs a loader with decode and transform, found {load!r}")
    inputs: list[NDArray[Any]] = []
    decoding = transforming = 0.0
    for item in plan.items[:MAX_SAMPLES]:
        started = time.perf_counter()
        try:
            decoded = load.decode(item)
            transform_started = time.perf_counter()
            inputs.append(np.asarray(load.transform(decoded, item, view=0)))
        except MediaError:
            continue
        decoding += transform_started - started
        transforming += time.perf_counter() - transform_started
        if decoding + transforming > SECONDS:
            break
    if not inputs:
        raise MediaError(f"none of the first {MAX_SAMPLES} {plan.unit} can be decoded")
    note = f"{len(inputs)} {plan.unit}, one process"
    return (
        _stage("decode", decoding, len(inputs), note),
        _stage("transform", transforming, len(inputs), note),
        inputs,
    )


def _encode(plan: Plan, inputs: Sequence[NDArray[Any]]) -> Stage:
    batch = np.stack(list(inputs[: plan.run_options.batch_size]))
    encode(plan.encoder, batch, plan.spec)  # the first pass allocates
    passes, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS / 4 or passes < 2:
        encode(plan.encoder, batch, plan.spec)
        passes += 1
    seconds = time.perf_counter() - started
    threads = torch.get_num_threads()
    return _stage("encode", seconds, passes * len(batch), f"batch {len(batch)}, {threads} threads")


def _write(plan: Plan) -> Stage:
    """Time writing one complete shard, in the folder of the store."""
    rows = fit_shard_rows(plan.spec.count, plan.spec.row_bytes)
    count = min(rows, plan.spec.count)
    spec = plan.spec.in_shards_of(rows).grown_to(count)  # other shards would only add keys
    parent = scratch_parent(plan.out)
    with tempfile.TemporaryDirectory(prefix=".epalm-benchmark-", dir=parent) as folder:
        out = Path(folder) / f"scratch{Path(plan.out).suffix}"
        store = create_store(out, spec, plan.keys[:count])
        tokens = np.zeros((count, *spec.row_shape), dtype=spec.dtype)
        started = time.perf_counter()
        store.write_shard(0, tokens, {})
        seconds = time.perf_counter() - started
    size = byte_size(tokens.nbytes)
    return _stage("write", seconds, count * spec.views, f"one shard, {count} records, {size}")


def scratch_parent(out: str) -> Path | None:
    """The nearest existing parent of a local store; None for a remote store."""
    if "://" in out:
        return None
    return next((folder for folder in Path(out).absolute().parents if folder.is_dir()), None)


def _stage(name: str, seconds: float, count: int, note: str) -> Stage:
    return Stage(name, seconds / count, count / seconds, note)
