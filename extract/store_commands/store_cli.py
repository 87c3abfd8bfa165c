"""The subcommands of `epalm-extract`, which work on an existing store."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from epalm.console import (
    byte_size,
    configure_logging,
    counted,
    note,
    progress,
    say,
    say_json,
    show_table,
    stoppable,
)
from epalm.devices import check_device_name
from epalm.errors import INCOMPLETE
from epalm.extract.planning.extract_options import STORE, StoreLocation
from epalm.extract.store_commands.export_cli import ExportOptions, export
from epalm.extract.store_commands.plan_cli import PlanOptions, plan
from epalm.extract.store_commands.retry_options import RetryOptions
from epalm.extract.store_commands.verify_cli import RepairOptions, VerifyOptions, repair, verify
from epalm.options import Json, Quiet, add_command, option
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.cache.store import Store


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """The options of `epalm-extract status`."""

    location: StoreLocation
    missing: Annotated[
        bool,
        option("--missing", help="Print the missing shards for `sbatch --array`.", panel=STORE),
    ] = False
    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """The options of `epalm-extract inspect`."""

    location: StoreLocation
    rows: Annotated[int, option(min=0, help="Number of records to show.", panel=STORE)] = 5
    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """The options of `epalm-extract convert`."""

    sources: Annotated[list[str], typer.Argument(metavar="STORE...", help="Finished stores.")]
    out: Annotated[str, option(help="Path or URL of the result, .zarr or .h5.", panel=STORE)]
    source_layers: Annotated[
        str,
        option(help="Blocks of the store to keep: all, last-6, or 0,5,11.", panel=STORE),
    ] = "all"
    store_format: Annotated[
        Literal["zarr", "hdf5"] | None,
        option(
            "--format",
            help="Format of the result; default: by the suffix of --out, else zarr.",
            panel=STORE,
        ),
    ] = None
    as_json: Json = False
    quiet: Quiet = False


PLAN_EXAMPLES = [
    "epalm-extract plan --dataset shards --out shards.zarr",
    "epalm-extract plan --dataset shards --out shards.zarr --part 0/8",
]


def add_commands(app: typer.Typer) -> None:
    """Add every subcommand to `epalm-extract`."""

    def add(name: str, options: type[Any], run: Callable[[Any], None], *arguments: str) -> None:
        examples = [f"epalm-extract {name} coco_vitb16.zarr{words}" for words in arguments]
        add_command(app, name, options, run, examples)

    add_command(app, "plan", PlanOptions, plan, PLAN_EXAMPLES)
    add("verify", VerifyOptions, verify, "", " --deep", " --media --data-root /data")
    add("status", StatusOptions, status, "", " --missing")
    add("repair", RepairOptions, repair, "", " --json")
    add("inspect", InspectOptions, inspect, "", " --rows 20")
    layers = " --source-layers last-1 --out out.h5"
    add("convert", ConvertOptions, convert, " --out coco.h5", layers)
    add("export", ExportOptions, export, " --format parquet --out coco_parquet")
    add("retry-failed", RetryOptions, retry_failed, "", " --data-root /data")


def status(options: StatusOptions) -> None:
    """Show how much of a store is done. Exit code 3: some shards are missing."""
    from epalm.cache.store import Store

    location = options.location
    opened = Store.open(location)
    store = opened.latest()
    listing = store.list_records()
    left, failed = listing.missing, len(store.failed_samples(listing))
    spec = store.spec
    if options.missing and not options.as_json:
        say(as_ranges(left))
    elif options.as_json:
        counts = {"shards": spec.shards, "missing": left, "records": spec.count, "failed": failed}
        say_json(counts | {"usable": 0 if opened.missing_shards() else opened.spec.count})
    else:
        for line in _status_lines(opened, store, left, failed):
            say(line)
    if left:
        raise typer.Exit(INCOMPLETE)


def _status_lines(opened: "Store", store: "Store", left: list[int], failed: int) -> Iterator[str]:
    """The counts of a store, and whether rows are being added to it.

    Args:
        opened: the store in its last finished generation.
        store: the store with all its rows.
        left: numbers of the missing shards.
        failed: number of failed samples.
    """
    spec = store.spec
    done = spec.count - sum(len(spec.rows_of(shard)) for shard in left)
    yield (
        f"{store.location}: {spec.shards - len(left)} of {spec.shards} shards, {done} of "
        f"{spec.count} records, {failed} of them failed"
    )
    if left:
        numbers = as_ranges(left)
        yield f"{len(left)} missing (shard {numbers}): run the same extraction again"
    if opened.growing and not opened.missing_shards():
        yield (
            f"{counted(opened.growing, 'record')} being added; the first {opened.spec.count} can "
            "be used meanwhile"
        )


def inspect(options: InspectOptions) -> None:
    """Show a store's settings, counts, first rows and memory use."""
    from epalm.cache.store import Store
    from epalm.extract.store_commands import store_inspect

    inspection = store_inspect.inspect(Store.open(options.location), rows=options.rows)
    if options.as_json:
        say_json(asdict(inspection))
    else:
        for table in store_inspect.tables(inspection):
            show_table(table)


def convert(options: ConvertOptions) -> None:
    """Copy or merge stores: format, layers, views.

    Converts between Zarr and HDF5, keeps fewer layers, or merges the views of several stores.
    """
    from epalm.cache.layer_selection import parse_layers
    from epalm.cache.maintenance.convert import convert as copy
    from epalm.cache.store import Store

    configure_logging(quiet=options.quiet)
    stores = [Store.open(source) for source in options.sources]
    keep = parse_layers(options.source_layers, stores[0].spec.layers)
    total = stores[0].spec.count
    with progress("copying", total=total, unit="records", quiet=options.quiet) as tick:
        copied = copy(
            stores, options.out, layers=keep, store_format=options.store_format, tick=tick
        )
    spec = copied.spec
    if options.as_json:
        shape = {"shape": spec.shape, "dtype": spec.dtype, "bytes": spec.nbytes}
        say_json({"store": options.out} | shape)
        return
    say(f"{options.out}: {spec.shape} {spec.dtype}, {byte_size(spec.nbytes)}")


def retry_failed(options: RetryOptions) -> None:
    """Encode only the failed samples again."""
    from epalm.cache.store import Store

    configure_logging(quiet=options.quiet)
    check_device_name(options.device)
    location = options.location
    store = Store.open(location).latest()

    from epalm.extract.planning.extraction_result import SHOWN_FAILURES
    from epalm.extract.reports.incomplete_media import incomplete_listed
    from epalm.extract.store_commands import retry_failed  # and torch, which takes seconds

    encoder, dataset = TypedName(options.encoder), TypedName(options.dataset)
    with stoppable(), incomplete_listed(location):
        report = retry_failed.retry_failed(
            store, replace(options, encoder=encoder, dataset=dataset)
        )
    if options.as_json:
        say_json({"store": location} | asdict(report))
    else:
        say(f"{location}: {report.encoded} of {report.tried} failed samples encoded")
        for key, reason in list(report.failed.items())[:SHOWN_FAILURES]:
            note(f"  {key}: {reason}")
    if report.failed:
        raise typer.Exit(INCOMPLETE)


def as_ranges(numbers: list[int]) -> str:
    """Ascending numbers in the notation of `sbatch --array`: `0-3,7,9-10`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
