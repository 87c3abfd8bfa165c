"""An estimate as lines of text and a table."""

from collections.abc import Iterator

from rich.table import Table

from epalm.console import byte_size, counted, duration
from epalm.extract.estimate.extraction_estimate import Estimate
from epalm.extract.estimate.speed_measurement import TIMED_SAMPLES
from epalm.extract.planning.extraction_plan import Plan


def describe_estimate(result: Estimate, plan: Plan) -> Iterator[str]:
    """Lines with size, time, requests, price and break-even."""
    yield _size_and_time(result, plan)
    requests = result.requests
    yield (
        f"{counted(result.objects, 'object')}; in an object store {requests.put} PUT, "
        f"{requests.head} HEAD, {requests.get} GET and {requests.list} LIST requests"
    )
    if result.hours is not None:
        yield _this_machine(result, plan)
    if result.examples:
        yield _break_even(result, plan)


def _size_and_time(result: Estimate, plan: Plan) -> str:
    if result.seconds is None:
        time_needed = f"time unknown: none of the first {TIMED_SAMPLES} can be decoded"
        if result.measurement.measured:
            time_needed = "time unknown: no sample could be decoded and encoded in that time"
    else:
        rate = f"{result.per_second} {plan.unit}/s"
        time_needed = f"about {duration(result.seconds)} at {rate}"
    size = f"{byte_size(result.bytes)}, {counted(result.shards, 'shard')}"
    start = f"would write {result.store}: "
    if result.new < result.records:
        start = f"would add {plan.samples(result.new)} to {result.store}, which then has "
    return (
        f"{start}{plan.samples(result.records)}, {plan.spec.shape} "
        f"{plan.spec.dtype}, {size}, {time_needed}"
    )


def _this_machine(result: Estimate, plan: Plan) -> str:
    speed = result.measurement
    how = (
        f"measured on {speed.views} views with {counted(plan.run_options.workers, 'process')} "
        "that decode"
        if speed.measured
        else f"a rough figure from {speed.views} views, one after the other: --measure 60 is better"
    )
    parts = [f"this machine: {result.hours:.2f} hours"]
    if result.per_million is not None:
        parts.append(f"{result.per_million:.2f} per million {plan.unit}")
    if speed.flops is not None:
        parts.append(f"{speed.flops / 1e9:.1f} GFLOP per view")
    return f"{', '.join(parts)} ({how})"


def _break_even(result: Estimate, plan: Plan) -> str:
    online = f"without a store, each epoch of {result.task} encodes {result.examples} {plan.unit}"
    speed = result.measurement
    if result.break_even_epochs is None:
        if not speed.per_second:
            return online
        return f"{online}: a store saves no time, since reading is as slow as encoding"
    read = (
        f" (a view is encoded in {1000 / speed.per_second:.2f} ms and read in "
        f"{1000 * speed.read_seconds:.3f} ms)"
        if speed.read_seconds
        else ""
    )
    return f"{online}: a store saves time after {result.break_even_epochs:.2f} epochs{read}"


def gpu_table(result: Estimate) -> Table:
    """Hours, price and decoding processes on one GPU of each kind."""
    priced = any(one.per_million is not None for one in result.gpus)
    headings = ["one GPU (estimate)", "per second", "hours", "decoding processes"]
    headings += ["price per million"] if priced else []
    table = Table(*headings, "speed of ViT-B/16 from")
    for one in result.gpus:
        decoders = "unknown" if one.decoders is None else f"{one.decoders:.0f}"
        row = [one.gpu, f"{one.per_second:.0f}", f"{one.hours:.2f}", decoders]
        row += [f"{one.per_million:.2f}"] if one.per_million is not None else []
        table.add_row(*row, one.source)
    return table
