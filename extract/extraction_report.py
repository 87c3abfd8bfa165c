"""Estimates before a run and reports after it, as text and as JSON."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from epalm.cache.records.extraction_log import ExtractionLogEntry, log_extraction
from epalm.cache.store import Store
from epalm.console import byte_size, counted, duration
from epalm.devices import peak_device_memory, pick_device
from epalm.errors import EpalmError
from epalm.extract.decoding.decode_batch import DecodeRequest
from epalm.extract.decoding.decode_pool import load_batches
from epalm.extract.planning.extraction_plan import Plan
from epalm.extract.run_extraction import ExtractionReport, encode
from epalm.system_memory import peak_memory
from epalm.tasks.task_registry import load_task

TIMED_SAMPLES = 32
"""Number of samples that a dry run encodes to estimate the time."""

SHOWN_FAILURES = 5
"""Number of failed records in the report; errors.jsonl lists all of them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """Size and time of a run, estimated from its first samples.

    Attributes:
        store: path or URL of the store.
        records: number of samples that the store would have.
        new: number of these that the run would encode.
        bytes: size of all features.
        shards: number of shards.
        per_second: samples per second, decoded and encoded one after the other.
        seconds: time for the new samples at that rate; None if no timed sample can be decoded.
        task: the first task that uses the dataset; "" if its training split cannot be read.
        examples: number of training examples of that task. Without a store, each epoch would
            encode the sample of every example.
        break_even_epochs: number of epochs after which encoding every view once is cheaper.
    """

    store: str
    records: int
    new: int
    bytes: int
    shards: int
    per_second: float
    seconds: float | None
    task: str
    examples: int
    break_even_epochs: float | None


def estimate(plan: Plan, new: int) -> Estimate:
    """Encode the first samples without storing them, and extrapolate the time to the new samples.

    Args:
        plan: plan of the run, with the spec that the store would have.
        new: number of samples that the run would encode.
    """
    requests = [DecodeRequest(0, 0, item) for item in plan.items[:TIMED_SAMPLES]]
    encoded = 0
    started = time.monotonic()
    for batch in load_batches([requests], plan.encoder.load, workers=0):
        if batch.inputs is not None:
            encoded += len(encode(plan.encoder, batch.inputs, plan.spec))
    per_second = encoded / (time.monotonic() - started)
    spec = plan.spec
    encodings = spec.count * spec.views
    task, examples = _training_examples(plan)
    return Estimate(
        store=plan.out,
        records=spec.count,
        new=new,
        bytes=spec.nbytes,
        shards=spec.shards,
        per_second=round(per_second, 2),
        seconds=round(new * spec.views / per_second, 1) if encoded else None,
        task=task,
        examples=examples,
        break_even_epochs=round(encodings / examples, 3) if examples else None,
    )


def _training_examples(plan: Plan) -> tuple[str, int]:
    """The first task that uses the dataset, and its number of training examples in the plan."""
    for name in plan.spec.tasks[:1]:
        try:
            task = load_task(name, Path(plan.spec.data_root))
            examples = task.examples(task.train_split, Path(plan.spec.data_root))
        except EpalmError as error:
            logger.warning(
                "no break-even: the training split of %s cannot be read: %s", name, error
            )
            break
        keys = set(plan.keys)
        return name, sum(example.key in keys for example in examples)
    return "", 0


def describe_estimate(result: Estimate, plan: Plan) -> str:
    """An estimate as one line of text."""
    if result.seconds is None:
        time_needed = f"time unknown: none of the first {TIMED_SAMPLES} can be decoded"
    else:
        rate = f"{result.per_second} {plan.unit}/s"
        time_needed = f"about {duration(result.seconds)} at {rate}"
    size = f"{byte_size(result.bytes)}, {counted(result.shards, 'shard')}"
    start = f"would write {result.store}: "
    if result.new < result.records:
        start = f"would add {plan.samples(result.new)} to {result.store}, which then has "
    line = (
        f"{start}{plan.samples(result.records)}, {plan.spec.shape} "
        f"{plan.spec.dtype}, {size}, {time_needed}"
    )
    if result.break_even_epochs is None:
        return line
    return (
        f"{line}; without a store, each epoch of {result.task} encodes {result.examples} "
        f"{plan.unit}: a store saves time after {result.break_even_epochs:.2f} epochs"
    )


def describe_report(report: ExtractionReport, plan: Plan) -> str:
    """The report of a run as one line of text."""
    store = f"{plan.out}: {plan.samples(report.records)}, {byte_size(plan.spec.nbytes)}"
    if not report.encoded and not report.missing:
        return f"{store}, already complete: nothing to do"
    rate = report.encoded / report.seconds
    took = duration(report.seconds)
    verb = "tried" if report.failed else "encoded"
    done = f"{store}; {verb} {report.encoded} in {took} ({rate:.1f} {plan.unit}/s)"
    if not report.missing:
        return done
    return (
        f"{done}; {report.missing} of {plan.spec.shards} shards are left to other processes, "
        f"see `epalm-extract status {plan.out}`"
    )


def describe_failures(report: ExtractionReport, plan: Plan, store: Store) -> Iterator[str]:
    """The number of failed records, the first few, and the file that lists them all."""
    yield f"{report.failed} of {report.records} {plan.unit} could not be encoded, e.g."
    for key, reason in islice(store.failed_samples().items(), SHOWN_FAILURES):
        yield f"  {key}: {reason}"
    yield (
        f"all failures: {store.errors_path}. Their rows are NaN and marked invalid; fix the "
        f"files and run `epalm-extract retry-failed {plan.out}`, or continue without them"
    )


def as_json(result: Estimate | ExtractionReport, plan: Plan) -> dict[str, object]:
    """An estimate or a report for --json."""
    return {"store": plan.out, **asdict(result)}


def note_report(report: ExtractionReport, plan: Plan, device: str) -> None:
    """Record time and memory of a run beside its store; evaluation reports show them.

    Args:
        report: report of the run.
        plan: plan of the run.
        device: name of the device, see `epalm.devices.pick_device`.
    """
    work = ExtractionLogEntry(
        encoded=report.encoded,
        seconds=round(report.seconds, 1),
        memory=peak_memory(),
        device=pick_device(device),
        device_memory=peak_device_memory(),
    )
    log_extraction(plan.out, work)
