"""What `epalm-extract` says before and after a run, for people and for programs."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from epalm.cache.zarr_store import PRIVATE
from epalm.console import byte_size, duration
from epalm.extract.loading import Request, load_batches
from epalm.extract.plan import Plan
from epalm.extract.run import Report, encode

TIMED_MEDIA = 32
"""Media that a dry run encodes to estimate the time."""

SHOWN_FAILURES = 5
"""Failed records that the summary quotes; errors.jsonl has all of them."""


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
    """

    store: str
    records: int
    bytes: int
    shards: int
    per_second: float
    seconds: float | None


def estimate(plan: Plan) -> Estimate:
    """Encode the first few media, store nothing, and scale the time up to all of them."""
    requests = [Request(0, 0, item) for item in plan.items[:TIMED_MEDIA]]
    encoded = 0
    started = time.monotonic()
    for batch in load_batches([requests], plan.encoder.load, workers=0):
        if batch.inputs is not None:
            encoded += len(encode(plan.encoder, batch.inputs, len(plan.spec.layers)))
    per_second = encoded / (time.monotonic() - started)
    return Estimate(
        store=str(plan.out),
        records=plan.spec.count,
        bytes=plan.spec.nbytes,
        shards=plan.spec.shards,
        per_second=round(per_second, 2),
        seconds=round(plan.spec.count / per_second, 1) if encoded else None,
    )


def describe_estimate(found: Estimate, plan: Plan) -> str:
    """An estimate in one line."""
    if found.seconds is None:
        pace = f"time unknown, since none of the first {TIMED_MEDIA} can be decoded"
    else:
        pace = f"about {duration(found.seconds)} at {found.per_second} {plan.unit}/s"
    return (
        f"would write {found.store}: {found.records} {plan.unit}, {plan.spec.shape} "
        f"{plan.spec.dtype}, {byte_size(found.bytes)}, {found.shards} shards, {pace}"
    )


def describe_report(report: Report, plan: Plan) -> str:
    """A finished run in one line."""
    what = f"{plan.out}: {report.records} {plan.unit}, {byte_size(plan.spec.nbytes)}"
    if not report.encoded:
        return f"{what}, complete before: nothing to do"
    rate = report.encoded / report.seconds
    took = duration(report.seconds)
    return f"{what}; encoded {report.encoded} in {took} ({rate:.1f} {plan.unit}/s)"


def describe_failures(report: Report, plan: Plan) -> Iterator[str]:
    """How many records failed, the first few of them, and where all of them are listed."""
    listed = plan.out / PRIVATE / "errors.jsonl"
    yield f"{report.failed} of {report.records} {plan.unit} could not be encoded, e.g."
    with listed.open(encoding="utf-8") as lines:
        for line in islice(lines, SHOWN_FAILURES):
            record = json.loads(line)
            yield f"  {record['key']}: {record['error']}"
    yield (
        f"all of them: {listed}. Their rows are NaN and marked not valid; mend the files and run "
        "again with --fresh, or go on without them"
    )


def as_json(result: Estimate | Report, plan: Plan) -> str:
    """An estimate or a report for programs."""
    return json.dumps({"store": str(plan.out), **asdict(result)})
