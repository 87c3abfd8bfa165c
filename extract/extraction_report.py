"""The report of a run, as text and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

from epalm.cache.records.extraction_log import ExtractionLogEntry, log_extraction
from epalm.cache.store import Store
from epalm.console import byte_size, duration
from epalm.devices import peak_device_memory, pick_device
from epalm.extract.planning.extraction_plan import Plan
from epalm.extract.run_extraction import ExtractionReport
from epalm.system_memory import peak_memory

SHOWN_FAILURES = 5
"""Number of failed records in the report; errors.jsonl lists all of them."""


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


def as_json(report: ExtractionReport, plan: Plan) -> dict[str, object]:
    """A report for --json."""
    return {"store": plan.out, **asdict(report)}


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
