"""The estimate of a run: `epalm-extract --dry-run`."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from epalm.cache.formats.store_format import format_of
from epalm.cache.index.index_keys import IndexKeys
from epalm.errors import EpalmError
from epalm.extract.estimate.run_cost import (
    SECONDS_PER_HOUR,
    GpuCost,
    Requests,
    break_even_epochs,
    count_objects,
    count_requests,
    gpu_costs,
    price_per_million,
)
from epalm.extract.estimate.speed_measurement import SpeedMeasurement, first_samples, timed_run
from epalm.extract.planning.extraction_plan import Plan
from epalm.tasks import manifest
from epalm.tasks.task_registry import load_task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """Size, time and price of a run.

    Attributes:
        store: path or URL of the store.
        records: number of samples that the store would have.
        new: number of these that the run would encode.
        bytes: size of all features.
        shards: number of shards.
        objects: number of files, or of objects in an object store.
        requests: requests to an object store.
        per_second: samples per second on this machine.
        seconds: time for the new samples at that rate; None if no timed sample can be decoded.
        hours: the same in hours.
        measurement: what was measured, per view of a sample.
        per_million: price of a million samples on this machine; None without a price.
        gpus: time and price on one GPU of each kind; empty if the encoder's FLOPs are unknown.
        task: the first task that uses the dataset; "" if its training split cannot be read.
        examples: number of training examples of that task. Without a store, each epoch would
            encode the sample of every example.
        break_even_epochs: number of epochs, summed over all runs, after which encoding every view
            once is cheaper; None if never, or without a task.
    """

    store: str
    records: int
    new: int
    bytes: int
    shards: int
    objects: int
    requests: Requests
    per_second: float
    seconds: float | None
    hours: float | None
    measurement: SpeedMeasurement
    per_million: float | None
    gpus: list[GpuCost]
    task: str
    examples: int
    break_even_epochs: float | None


def estimate(
    plan: Plan, new: int, *, measure: float | None = None, price_per_hour: float | None = None
) -> Estimate:
    """Measure this machine and extrapolate to the new samples.

    Args:
        plan: plan of the run, with the spec that the store would have.
        new: number of samples that the run would encode.
        measure: time of the measurement in seconds; None for a rough figure from the first samples.
        price_per_hour: price of this machine; None if unknown.
    """
    speed = first_samples(plan) if measure is None else timed_run(plan, measure)
    spec, store_format = plan.spec, format_of(plan.out, plan.store_format)
    per_second = speed.per_second / spec.views
    seconds = new / per_second if per_second else None
    task, examples = _training_examples(plan)
    priced = price_per_hour is not None and per_second > 0
    return Estimate(
        store=plan.out,
        records=spec.count,
        new=new,
        bytes=spec.nbytes,
        shards=spec.shards,
        objects=count_objects(spec, store_format),
        requests=count_requests(
            spec, store_format, new_rows=new, processes=plan.process_shard.world_size
        ),
        per_second=round(per_second, 2),
        seconds=None if seconds is None else round(seconds, 1),
        hours=None if seconds is None else seconds / SECONDS_PER_HOUR,
        measurement=speed,
        per_million=price_per_million(per_second, price_per_hour or 0.0) if priced else None,
        gpus=_gpus(plan, new, speed, price_per_hour),
        task=task,
        examples=examples,
        break_even_epochs=_break_even(plan, examples, speed),
    )


def _gpus(
    plan: Plan, new: int, speed: SpeedMeasurement, price_per_hour: float | None
) -> list[GpuCost]:
    if speed.flops is None:
        return []
    views, decode_seconds = plan.spec.views, speed.decode_seconds
    return gpu_costs(
        new,
        speed.flops * views,
        decode_seconds=None if decode_seconds is None else decode_seconds * views,
        price_per_hour=price_per_hour,
    )


def _break_even(plan: Plan, examples: int, speed: SpeedMeasurement) -> float | None:
    encodings = plan.spec.count * plan.spec.views
    if not examples or not speed.per_second:
        return None
    epochs = break_even_epochs(
        encodings,
        examples,
        encode_seconds=1 / speed.per_second,
        read_seconds=speed.read_seconds,
    )
    return None if epochs is None else round(epochs, 3)


def _training_examples(plan: Plan) -> tuple[str, int]:
    """The first task that uses the dataset, and its number of training examples in the plan.

    Tar files, tables and folders of media files have no task until a manifest is written for them.
    """
    for name in plan.spec.tasks[:1]:
        if name == manifest.TASK and not manifest.is_in(Path(plan.spec.data_root)):
            break
        try:
            task = load_task(name, Path(plan.spec.data_root))
            examples = task.examples(task.train_split, Path(plan.spec.data_root))
        except EpalmError as error:
            logger.warning(
                "no break-even: the training split of %s cannot be read: %s", name, error
            )
            break
        if isinstance(plan.keys, IndexKeys):
            found = plan.keys.find([example.key for example in examples])
            return name, int((found >= 0).sum())
        keys = set(plan.keys)
        return name, sum(example.key in keys for example in examples)
    return "", 0


def as_json(result: Estimate) -> dict[str, object]:
    """An estimate for --json."""
    return asdict(result)
