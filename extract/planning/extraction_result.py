"""The report of a run, as text and as JSON; torch is not needed."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import byte_size, counted, duration
from epalm.errors import Stopped
from epalm.extract.encoders.encoder_names import SHORTHANDS
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.tasks.readers.folder_check import OPTION as ALLOW_OUTSIDE

if TYPE_CHECKING:
    from epalm.extract.planning.extraction_plan import Plan

SHOWN_FAILURES = 5
"""Number of failed records in the report; errors.jsonl lists all of them."""


@dataclass(frozen=True)
class ExtractionReport:
    """The result of a run.

    Attributes:
        records: number of samples in the store.
        encoded: number of samples that this run encoded or failed to encode.
        failed: number of samples in finished shards that have no features.
        missing: number of shards that other processes have yet to write.
        seconds: wall-clock time.
    """

    records: int
    encoded: int
    failed: int
    missing: int
    seconds: float


@dataclass(frozen=True)
class RunLabels:
    """What messages call the store and the samples of a run.

    Attributes:
        out: path or URL of the store.
        spec: specification of the store.
        unit: what the samples are called, e.g. "images".
        processes: number of processes that fill the store, each with a command of its own.
        retry: the command that encodes the failed samples again.
    """

    out: str
    spec: StoreSpec
    unit: str
    processes: int = 1
    retry: str = ""

    @classmethod
    def of(cls, plan: "Plan", options: ExtractOptions) -> Self:
        """The labels of the run of a plan, which was made from options."""
        processes = plan.process_shard.world_size
        return cls(plan.out, plan.spec, plan.unit, processes, retry_command(plan.out, options))

    def samples(self, count: int) -> str:
        """A number of samples in words, e.g. "1 image"."""
        return counted(count, self.unit.removesuffix("s"))


def retry_command(out: str, options: ExtractOptions) -> str:
    """The command that encodes the failed samples of a store again.

    It has those options that a store may not record, since they name code or allow more.
    """
    words = ["epalm-extract", "retry-failed", out]
    if ":" in options.encoder and not options.encoder.startswith(tuple(SHORTHANDS)):
        words += ["--encoder", options.encoder]
    if ":" in options.dataset and not Path(options.dataset).exists():
        words += ["--dataset", options.dataset]
    if options.allow_outside:
        words.append(ALLOW_OUTSIDE)
    return shlex.join(words)


@dataclass(frozen=True)
class FilledStore:
    """The result of an extraction.

    Attributes:
        report: numbers of encoded, failed and missing samples.
        labels: what messages call the store and its samples.
        store: the store.
    """

    report: ExtractionReport
    labels: RunLabels
    store: Store


def describe_report(report: ExtractionReport, run: RunLabels) -> str:
    """The report of a run as one line of text."""
    store = f"{run.out}: {run.samples(report.records)}, {byte_size(run.spec.nbytes)}"
    if not report.encoded and not report.missing:
        return f"{store}, already complete: nothing to do"
    rate = report.encoded / report.seconds
    took = duration(report.seconds)
    verb = "tried" if report.failed else "encoded"
    done = f"{store}; {verb} {report.encoded} in {took} ({rate:.1f} {run.unit}/s)"
    if not report.missing:
        return done
    return (
        f"{done}; {report.missing} of {run.spec.shards} shards are left to other processes, "
        f"see `epalm-extract status {run.out}`"
    )


def describe_failures(report: ExtractionReport, run: RunLabels, store: Store) -> Iterator[str]:
    """The number of failed records, the first few, and the file that lists them all."""
    yield f"{report.failed} of {report.records} {run.unit} could not be encoded, e.g."
    for key, reason in islice(store.failed_samples().items(), SHOWN_FAILURES):
        yield f"  {key}: {reason}"
    yield (
        f"all failures: {store.errors_path}. Their rows are NaN and marked invalid; fix the "
        f"files and run `{run.retry}`, or continue without them"
    )


def report_json(report: ExtractionReport, run: RunLabels) -> dict[str, object]:
    """A report for --json."""
    return {"store": run.out, **asdict(report)}


def stopped_error(left: int, shards: int) -> Stopped:
    """The error of a run that a signal stopped.

    Args:
        left: number of shards to do.
        shards: number of shards of the store.
    """
    return Stopped(
        f"stopped with {left} of {shards} shards to do: run the same command again to resume"
    )
