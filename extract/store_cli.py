"""The subcommands of `epalm-extract`, which work on an existing store."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from epalm.console import (
    byte_size,
    configure_logging,
    note,
    progress,
    say,
    say_json,
    show_table,
    stoppable,
)
from epalm.devices import AUTO, check_device_name
from epalm.errors import INCOMPLETE
from epalm.extract.planning.extract_options import (
    DATA,
    ENCODER,
    PERFORMANCE,
    STORE,
    AllowOutside,
    Json,
    StoreLocation,
)
from epalm.extract.verify_cli import repair, verify
from epalm.options import PanelCommand, Quiet, examples_epilog, option
from epalm.plugins import TypedName


def add_commands(app: typer.Typer) -> None:
    """Add every subcommand to `epalm-extract`."""
    example = "epalm-extract {} coco_vitb16.zarr"
    for command, options in (
        (verify, ("", " --deep", " --media --data-root /data")),
        (status, ("", " --missing")),
        (repair, ("", " --json")),
        (inspect, ("", " --rows 20")),
        (convert, (" --out coco.h5", " --source-layers last-1 --out out.h5")),
        (retry_failed, ("", " --data-root /data")),
    ):
        name = command.__name__.replace("_", "-")
        examples = tuple(example.format(name) + words for words in options)
        app.command(name, cls=PanelCommand, epilog=examples_epilog(*examples))(command)


def status(
    location: StoreLocation,
    missing: Annotated[
        bool,
        option("--missing", help="Print the missing shards for `sbatch --array`.", panel=STORE),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how much of a store is done. Exit code 3: some shards are missing."""
    from epalm.cache.store import Store

    store = Store.open(location)
    left, failed = store.missing_shards(), len(store.failed_samples())
    spec = store.spec
    if missing:
        say(as_ranges(left))
    elif as_json:
        counts = {"shards": spec.shards, "missing": left, "records": spec.count, "failed": failed}
        say_json(counts)
    else:
        done = spec.count - sum(len(spec.rows_of(shard)) for shard in left)
        say(
            f"{location}: {spec.shards - len(left)} of {spec.shards} shards, {done} of "
            f"{spec.count} records, {failed} of them failed"
        )
        if left:
            numbers = as_ranges(left)
            say(f"{len(left)} missing (shard {numbers}): run the same extraction again")
    if left:
        raise typer.Exit(INCOMPLETE)


def inspect(
    location: StoreLocation,
    rows: Annotated[int, option(min=0, help="Number of records to show.", panel=STORE)] = 5,
    as_json: Json = False,
) -> None:
    """Show a store's settings, counts, first rows and memory use."""
    from epalm.cache.store import Store
    from epalm.extract import store_inspect

    inspection = store_inspect.inspect(Store.open(location), rows=rows)
    if as_json:
        say_json(asdict(inspection))
    else:
        for table in store_inspect.tables(inspection):
            show_table(table)


def convert(
    sources: Annotated[list[str], typer.Argument(metavar="STORE...", help="Finished stores.")],
    out: Annotated[str, option(help="Path or URL of the result, .zarr or .h5.", panel=STORE)],
    source_layers: Annotated[
        str,
        option(help="Blocks of the store to keep: all, last-6, or 0,5,11.", panel=STORE),
    ] = "all",
    store_format: Annotated[
        Literal["zarr", "hdf5"] | None,
        option(
            "--format",
            help="Format of the result; default: by the suffix of --out, else zarr.",
            panel=STORE,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Copy or merge stores: format, layers, views.

    Converts between Zarr and HDF5, keeps fewer layers, or merges the views of several stores.
    """
    from epalm.cache.convert import convert as copy
    from epalm.cache.layer_selection import parse_layers
    from epalm.cache.store import Store

    configure_logging(quiet=quiet)
    stores = [Store.open(source) for source in sources]
    keep = parse_layers(source_layers, stores[0].spec.layers)
    total = stores[0].spec.count
    with progress("copying", total=total, unit="records", quiet=quiet) as tick:
        spec = copy(stores, out, layers=keep, store_format=store_format, tick=tick).spec
    say(f"{out}: {spec.shape} {spec.dtype}, {byte_size(spec.nbytes)}")


def retry_failed(
    location: StoreLocation,
    encoder: Annotated[
        str,
        option(
            help="Encoder; default: the store's, required if that is a module:factory.",
            panel=ENCODER,
        ),
    ] = "",
    dataset: Annotated[
        str,
        option(
            help="Dataset; default: the store's, required if that is a module:factory.",
            panel=DATA,
        ),
    ] = "",
    weights: Annotated[
        Path | None,
        option(help="Weights of the encoder; default: the path used at extraction.", panel=ENCODER),
    ] = None,
    data_root: Annotated[
        Path | None,
        option(help="Folder of the dataset; default: the one used at extraction.", panel=DATA),
    ] = None,
    device: Annotated[
        str,
        option(help="Device: cpu, cuda, cuda:1, mps (untested), or auto.", panel=PERFORMANCE),
    ] = AUTO,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Encode only the failed samples again."""
    from epalm.cache.store import Store

    configure_logging(quiet=quiet)
    check_device_name(device)
    store = Store.open(location)

    from epalm.extract import (
        extraction_report,  # and torch, which takes seconds
        retry_failed,
    )
    from epalm.extract.incomplete_media import incomplete_listed

    with stoppable(), incomplete_listed(location):
        report = retry_failed.retry_failed(
            store,
            encoder=TypedName(encoder),
            dataset=TypedName(dataset),
            weights=weights,
            data_root=data_root,
            device=device,
            allow_outside=allow_outside,
            quiet=quiet,
        )
    say(f"{location}: {report.encoded} of {report.tried} failed records encoded")
    for key, reason in list(report.failed.items())[: extraction_report.SHOWN_FAILURES]:
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
