"""The commands of `epalm-extract` that look after a store that is there."""

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
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.cache.media_check import MediaCheck
    from epalm.cache.store import Store

DAMAGED = 1
"""Exit code of `verify` for a store with damaged files."""

Location = Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
AllowOutside = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        help="Read files that the data set names outside its folder: absolute paths, .., links.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")]


def add_commands(app: typer.Typer) -> None:
    """Register all of them."""
    for command in (verify, status, repair, inspect, convert):
        app.command()(command)
    app.command("retry-failed")(retry_failed)


def verify(
    location: Location,
    deep: Annotated[
        bool, typer.Option("--deep", help="Compute every checksum, not just compare sizes.")
    ] = False,
    media: Annotated[
        bool,
        typer.Option(
            "--media", help="Also compare the media files with what was recorded of them."
        ),
    ] = False,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the media; default: as when they were encoded.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that the files of a store are complete and intact.

    Compares the files with the store's commit records, and with --media the samples with what was
    recorded of them. Exit code 1: a file is damaged or changed, 3: shards or media
    records are missing.
    """
    from epalm.cache import verify as checks

    store = _present(location)
    problems = list(checks.verify_deep(store) if deep else checks.verify(store))
    missing = [] if problems else store.missing_shards()
    found = _media_check(store, data_root) if media and not problems else None
    if as_json:
        lists = {"problems": [asdict(one) for one in problems], "missing": missing}
        say_json(lists | ({"media": asdict(found)} if found else {}))
    else:
        for problem in problems:
            say(f"{problem.name} {problem.found}")
        lost = [problem for problem in problems if problem.found == checks.MISSING]
        damaged = len(problems) - len(lost)
        say(_verdict(location, damaged=damaged, lost=len(lost), missing=len(missing), deep=deep))
        for line in _media_lines(location, found) if found else ():
            say(line)
    if problems or (found and (found.changed or found.vanished)):
        raise typer.Exit(DAMAGED)
    if missing or (found and found.not_recorded):
        raise typer.Exit(INCOMPLETE)


def status(
    location: Location,
    missing: Annotated[
        bool, typer.Option("--missing", help="Print the missing shards for `sbatch --array`.")
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

    The same extraction encodes them again. No writer may run meanwhile.
    """
    from epalm.cache import verify as checks

    problems = checks.repair(_present(location))
    if as_json:
        say_json({"problems": [asdict(one) for one in problems]})
        return
    for problem in problems:
        say(
            f"{problem.name} {problem.found}"
            + ("" if problem.found == checks.MISSING else ": deleted")
        )
    found = counted(len(problems), "file")
    say(
        f"{location}: {found} to be made again: run the same `epalm-extract` command"
        if problems
        else f"{location}: nothing to repair"
    )


def inspect(
    location: Location,
    rows: Annotated[int, typer.Option(min=0, help="Number of records to show.")] = 5,
    as_json: Json = False,
) -> None:
    """Show settings, counts, records and memory of a store."""
    from epalm.cache.store import Store
    from epalm.extract import store_inspect

    found = store_inspect.inspect(Store.open(location), rows=rows)
    if as_json:
        say_json(asdict(found))
    else:
        for shown in store_inspect.tables(found):
            show_table(shown)


def convert(
    sources: Annotated[list[str], typer.Argument(metavar="STORE...", help="Finished stores.")],
    out: Annotated[str, typer.Option(help="Path or URL of the result, .zarr or .h5.")],
    source_layers: Annotated[
        str, typer.Option(help="Blocks of the store to keep: all, last-6, or 0,5,11.")
    ] = "all",
    store_format: Annotated[
        Literal["zarr", "hdf5"] | None,
        typer.Option("--format", help="Format of the result; default: by --out."),
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
        made = copy(stores, out, layers=keep, store_format=store_format, tick=tick)
    say(f"{out}: {made.spec.shape} {made.spec.dtype}, {byte_size(made.spec.nbytes)}")


def retry_failed(
    location: Location,
    encoder: Annotated[
        str,
        typer.Option(help="Encoder; default: the store's, required if that is a module:factory."),
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(help="Data set; default: the store's, required if that is a module:factory."),
    ] = "",
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of the encoder; default: the path used at extraction."),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set; default: the one used at extraction."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device: cpu, cuda, cuda:1, mps (untested), or auto.")
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
    say(f"{location}: {report.mended} of {report.tried} failed records encoded")
    for key, reason in list(report.failed.items())[: extraction_report.SHOWN_FAILURES]:
        note(f"  {key}: {reason}")
    if report.failed:
        raise typer.Exit(INCOMPLETE)


def as_ranges(numbers: list[int]) -> str:
    """Ascending numbers as `sbatch --array` takes them: `0-3,7,9-10`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _present(location: str) -> "Store":
    """A store whose documents may be damaged, but of which something is there."""
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


def _media_lines(location: str, found: "MediaCheck") -> Iterator[str]:
    yield from (f"{key} changed" for key in found.changed)
    yield from (f"{key} is no longer there" for key in found.vanished)
    differing = len(found.changed) + len(found.vanished)
    if differing:
        yield (
            f"{location}: {differing} of {found.checked} media files differ from those that were "
            "encoded: run the same extraction again"
        )
    elif found.checked:
        files = counted(found.checked, "media file")
        yield f"{location}: {files} agree with what was recorded of them"
    if found.touched:
        yield f"{found.touched} of them have another modification time, but the same content"
    if found.not_recorded:
        yield (
            f"{location}: unknown whether {counted(found.not_recorded, 'media file')} changed: "
            "encoded by an earlier version, which recorded nothing of them; only --fresh does"
        )


def _verdict(location: str, *, damaged: int, lost: int, missing: int, deep: bool) -> str:
    if damaged:
        found = counted(damaged, "damaged file") + (f", {lost} lost" if lost else "")
        return (
            f"{location}: {found}: run `epalm-extract repair {location}`, then the same extraction"
        )
    if lost:
        return f"{location}: {counted(lost, 'file')} lost: run the same extraction again"
    if missing:
        found = counted(missing, "shard")
        return f"{location}: no damage, but {found} missing: run the same extraction again"
    checked = "every checksum agrees" if deep else "every size agrees (--deep computes checksums)"
    return f"{location}: {checked}"
