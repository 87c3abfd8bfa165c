"""Where the time of an extraction goes: decode, transform, encode, write, each on its own."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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

MEDIA = 256
"""Media that are decoded and transformed, at most."""

SECONDS = 20.0
"""Each of decoding and encoding ends after so many seconds with what it has."""


@dataclass(frozen=True)
class Stage:
    """What one stage costs.

    Attributes:
        name: of the stage.
        seconds: per vector.
        per_second: vectors per second of one process.
        note: how it was measured.
    """

    name: str
    seconds: float
    per_second: float
    note: str


def measure(plan: Plan) -> list[Stage]:
    """Time the stages one after the other on the first media; nothing but a scratch file is made.

    Raises:
        MediaError: not one of the first media can be decoded.
        UsageError: the encoder's loader does both in one.
    """
    decode, transform, inputs = _load(plan)
    return [decode, transform, _encode(plan, inputs), _write(plan)]


def table(stages: Sequence[Stage]) -> Table:
    """The stages with their share of the time of one process that does all of them in turn."""
    total = sum(stage.seconds for stage in stages)
    shown = Table("stage", "ms each", "per second", "share", "measured on")
    for stage in stages:
        shown.add_row(
            stage.name,
            f"{1000 * stage.seconds:.2f}",
            f"{stage.per_second:.1f}",
            f"{100 * stage.seconds / total:.1f} %",
            stage.note,
        )
    return shown


def as_json(stages: Sequence[Stage]) -> str:
    """The stages for programs."""
    return json.dumps([asdict(stage) for stage in stages])


def _load(plan: Plan) -> tuple[Stage, Stage, list[NDArray[Any]]]:
    load = plan.encoder.load
    if not isinstance(load, TwoStageLoader):
        raise UsageError(f"--benchmark cannot tell decoding from transforming in {load!r}")
    inputs: list[NDArray[Any]] = []
    decoding = transforming = 0.0
    for item in plan.items[:MEDIA]:
        started = time.perf_counter()
        try:
            decoded = load.decode(item)
            between = time.perf_counter()
            inputs.append(np.asarray(load.transform(decoded, item, view=0)))
        except MediaError:
            continue
        decoding += between - started
        transforming += time.perf_counter() - between
        if decoding + transforming > SECONDS:
            break
    if not inputs:
        raise MediaError(f"none of the first {MEDIA} {plan.unit} can be decoded")
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
    """A whole shard, as often as a store would have it, beside the place of the store."""
    spec = replace(plan.spec, shard_rows=fit_shard_rows(plan.spec.count, plan.spec.row_bytes))
    parent = _scratch_parent(plan.out)
    with tempfile.TemporaryDirectory(prefix=".epalm-benchmark-", dir=parent) as folder:
        store = create_store(Path(folder) / f"scratch{Path(plan.out).suffix}", spec, plan.keys)
        rows = len(spec.rows_of(0))
        tokens = np.zeros((rows, *spec.row_shape), dtype=spec.dtype)
        started = time.perf_counter()
        store.write_shard(0, tokens, {})
        seconds = time.perf_counter() - started
    size = byte_size(tokens.nbytes)
    return _stage("write", seconds, rows * spec.views, f"one shard, {rows} records, {size}")


def _scratch_parent(out: str) -> Path | None:
    """The nearest folder above a local store that exists; the system's own for a remote one."""
    if "://" in out:
        return None
    return next((folder for folder in Path(out).absolute().parents if folder.is_dir()), None)


def _stage(name: str, seconds: float, count: int, note: str) -> Stage:
    return Stage(name, seconds / count, count / seconds, note)
