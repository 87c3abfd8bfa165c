"""The subcommands of `epalm-extract`, which work on an existing store."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
from epalm.devices import AUTO, check_device_name
from epalm.errors import INCOMPLETE
from epalm.extract.planning.extract_options import (
    DATA,
    ENCODER,
    PERFORMANCE,
    STORE,
    AllowOutside,
    Json,
    Quiet,
)
from epalm.options import PanelCommand, examples_epilog, option
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.cache.media_check import MediaCheck
    from epalm.cache.store import Store

DAMAGED = 1
"""Exit code of `verify` for a store with damaged files."""

Location = Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of the store.")]


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


def verify(
    location: Location,
    deep: Annotated[
        bool,
        option("--deep", help="Compute every checksum, not just compare sizes.", panel=STORE),
    ] = False,
    media: Annotated[
        bool,
        option(
            "--media",
            help="Also compare the media files with their size, time and hash in the store.",
            panel=DATA,
        ),
    ] = False,
    data_root: Annotated[
        Path | None,
        option(help="Folder of the data set; default: the one used at extraction.", panel=DATA),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that the files of a store are complete and intact.

    Compares the files with the store's commit records, and with --media the media files with their
    records. Exit code 1: a file is damaged or changed, 3: shards or media records are missing.
    """
    from epalm.cache import verify as checks

    store = _open_damaged(location)
    problems = list(checks.verify_deep(store) if deep else checks.verify(store))
    missing = [] if problems else store.missing_shards()
    check = _media_check(store, data_root) if media and not problems else None
    if as_json:
        lists = {"problems": [asdict(problem) for problem in problems], "missing": missing}
        say_json(lists | ({"media": asdict(check)} if check else {}))
    else:
        for problem in problems:
            say(f"{problem.name} {problem.found}")
        lost = [problem for problem in problems if problem.found == checks.MISSING]
        damaged = len(problems) - len(lost)
        say(_verdict(location, damaged=damaged, lost=len(lost), missing=len(missing), deep=deep))
        for line in _media_lines(location, check) if check else ():
            say(line)
    if problems or (check and (check.changed or check.vanished)):
        raise typer.Exit(DAMAGED)
    if missing or (check and check.not_recorded):
        raise typer.Exit(INCOMPLETE)


def status(
    location: Location,
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


def repair(location: Location, as_json: Json = False) -> None:
    """Delete damaged shards.

    Run the same extraction again to re-encode them. Do not repair a store while it is written.
    """
    from epalm.cache import verify as checks

    problems = checks.repair(_open_damaged(location))
    if as_json:
        say_json({"problems": [asdict(problem) for problem in problems]})
        return
    for problem in problems:
        say(
            f"{problem.name} {problem.found}"
            + ("" if problem.found == checks.MISSING else ": deleted")
        )
    files = counted(len(problems), "file")
    say(
        f"{location}: {files} to write again: run the same `epalm-extract` command"
        if problems
        else f"{location}: nothing to repair"
    )


def inspect(
    location: Location,
    rows: Annotated[int, option(min=0, help="Number of records to show.", panel=STORE)] = 5,
    as_json: Json = False,
) -> None:
    """Show settings, counts, records and memory of a store."""
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
    location: Location,
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
            help="Data set; default: the store's, required if that is a module:factory.",
            panel=DATA,
        ),
    ] = "",
    weights: Annotated[
        Path | None,
        option(help="Weights of the encoder; default: the path used at extraction.", panel=ENCODER),
    ] = None,
    data_root: Annotated[
        Path | None,
        option(help="Folder of the data set; default: the one used at extraction.", panel=DATA),
    ] = None,
    device: Annotated[
        str,
        option(help="Device: cpu, cuda, cuda:1, mps (untested), or auto.", panel=PERFORMANCE),
    ] = AUTO,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Encode again only the records that failed."""
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


def _open_damaged(location: str) -> "Store":
    """A store at a location that is not empty; any of its files may be damaged."""
    from epalm.cache.missing_store import missing_store_error
    from epalm.cache.store import Store

    store = Store.at(location)
    if not store.exists() and not store.storage.names(""):
        raise missing_store_error(location)
    return store


def _media_check(store: "Store", data_root: Path | None) -> "MediaCheck":
    from epalm.cache.media_check import verify_media
    from epalm.tasks.task_registry import resolve_data_root

    spec = store.spec
    task = spec.tasks[0] if spec.tasks else ""
    return verify_media(
        store, str(resolve_data_root(data_root, recorded=spec.data_root, task=task))
    )


def _media_lines(location: str, check: "MediaCheck") -> Iterator[str]:
    yield from (f"{key} changed" for key in check.changed)
    yield from (f"{key} no longer exists" for key in check.vanished)
    differing = len(check.changed) + len(check.vanished)
    if differing:
        yield (
            f"{location}: {differing} of {check.checked} media files differ from those that were "
            "encoded: run the same extraction again"
        )
    elif check.checked:
        files = counted(check.checked, "media file")
        yield f"{location}: {files} match the store's records"
    if check.touched:
        yield f"{check.touched} of them have another modification time, but the same content"
    if check.not_recorded:
        yield (
            f"{location}: unknown whether {counted(check.not_recorded, 'media file')} changed: "
            "an earlier version encoded them without a record; only --fresh makes one"
        )


def _verdict(location: str, *, damaged: int, lost: int, missing: int, deep: bool) -> str:
    if damaged:
        files = counted(damaged, "damaged file") + (f", {lost} lost" if lost else "")
        return (
            f"{location}: {files}: run `epalm-extract repair {location}`, then the same extraction"
        )
    if lost:
        return f"{location}: {counted(lost, 'file')} lost: run the same extraction again"
    if missing:
        shards = counted(missing, "shard")
        return f"{location}: no damage, but {shards} missing: run the same extraction again"
    checked = "every checksum matches" if deep else "every size matches (--deep computes checksums)"
    return f"{location}: {checked}"
