"""What `epalm-extract` says before and after a run, for people and for programs."""

import json
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
from epalm.extract.decoding.decode_pool import DecodeRequest, load_batches
from epalm.extract.planning.extraction_plan import Plan
from epalm.extract.run_extraction import ExtractionReport, encode
from epalm.system_memory import peak_memory
from epalm.tasks.task_registry import load_task

TIMED_MEDIA = 32
"""Media that a dry run encodes to estimate the time."""

SHOWN_FAILURES = 5
"""Failed records that the summary quotes; errors.jsonl has all of them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """What a run would make.

    Attributes:
        store: path.
        records: media.
        bytes: of all vectors.
        shards: units of work.
        per_second: media per second, decoded and encoded one after the other.
        seconds: for all media at that rate; None if not one of the timed media can be decoded.
        task: the first task over the media; "" if its training split is not there.
        examples: training examples of that task, each of which would be encoded once an epoch if
            there were no store.
        break_even_epochs: passes over them after which encoding every view once was cheaper.
    """

    store: str
    records: int
    bytes: int
    shards: int
    per_second: float
    seconds: float | None
    task: str
    examples: int
    break_even_epochs: float | None


def estimate(plan: Plan) -> Estimate:
    """Encode the first few media, store nothing, and scale the time up to all of them."""
    requests = [DecodeRequest(0, 0, item) for item in plan.items[:TIMED_MEDIA]]
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
        bytes=spec.nbytes,
        shards=spec.shards,
        per_second=round(per_second, 2),
        seconds=round(encodings / per_second, 1) if encoded else None,
        task=task,
        examples=examples,
        break_even_epochs=round(encodings / examples, 3) if examples else None,
    )


def _training_examples(plan: Plan) -> tuple[str, int]:
    """The first task over the media, and how many training examples it has among them."""
    for name in plan.spec.tasks[:1]:
        try:
            task = load_task(name, Path(plan.spec.data_root))
            examples = task.examples(task.train_split, Path(plan.spec.data_root))
        except EpalmError as error:
            logger.warning(
                "no break-even: the training split of %s cannot be read: %s", name, error
            )
            break
        held = set(plan.keys)
        return name, sum(example.key in held for example in examples)
    return "", 0


def describe_estimate(found: Estimate, plan: Plan) -> str:
    """An estimate in one line."""
    if found.seconds is None:
        pace = f"time unknown, since none of the first {TIMED_MEDIA} can be decoded"
    else:
        pace = f"about {duration(found.seconds)} at {found.per_second} {plan.unit}/s"
    line = (
        f"would write {found.store}: {_media(found.records, plan)}, {plan.spec.shape} "
        f"{plan.spec.dtype}, {byte_size(found.bytes)}, {counted(found.shards, 'shard')}, {pace}"
    )
    if found.break_even_epochs is None:
        return line
    return (
        f"{line}; without a store each epoch of {found.task} encodes {found.examples} {plan.unit}: "
        f"extracting pays from {found.break_even_epochs:.2f} epochs on"
    )


def _media(count: int, plan: Plan) -> str:
    return counted(count, plan.unit.removesuffix("s"))


def describe_report(report: ExtractionReport, plan: Plan) -> str:
    """A finished run in one line."""
    what = f"{plan.out}: {_media(report.records, plan)}, {byte_size(plan.spec.nbytes)}"
    if not report.encoded and not report.missing:
        return f"{what}, complete before: nothing to do"
    rate = report.encoded / report.seconds
    took = duration(report.seconds)
    verb = "tried" if report.failed else "encoded"
    done = f"{what}; {verb} {report.encoded} in {took} ({rate:.1f} {plan.unit}/s)"
    if not report.missing:
        return done
    return (
        f"{done}; {report.missing} of {plan.spec.shards} shards are left to the other processes, "
        f"see `epalm-extract status {plan.out}`"
    )


def describe_failures(report: ExtractionReport, plan: Plan, store: Store) -> Iterator[str]:
    """How many records failed, the first few of them, and where all of them are listed."""
    yield f"{report.failed} of {report.records} {plan.unit} could not be encoded, e.g."
    for key, reason in islice(store.failed_samples().items(), SHOWN_FAILURES):
        yield f"  {key}: {reason}"
    yield (
        f"all of them: {store.errors_path}. Their rows are NaN and marked not valid; mend the "
        f"files and run `epalm-extract retry-failed {plan.out}`, or go on without them"
    )


def as_json(result: Estimate | ExtractionReport, plan: Plan) -> str:
    """An estimate or a report for programs."""
    return json.dumps({"store": plan.out, **asdict(result)})


def note_report(report: ExtractionReport, plan: Plan, device: str) -> None:
    """Leave what a run took beside its store, for the reports.

    Args:
        report: of the run.
        plan: of the run.
        device: as for `epalm.devices.pick_device`.
    """
    work = ExtractionLogEntry(
        encoded=report.encoded,
        seconds=round(report.seconds, 1),
        memory=peak_memory(),
        device=pick_device(device),
        device_memory=peak_device_memory(),
    )
    log_extraction(plan.out, work)
