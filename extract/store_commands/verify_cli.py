"""The subcommands of `epalm-extract` that find and delete damaged files of a store."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epalm.console import counted, say, say_json
from epalm.errors import INCOMPLETE
from epalm.extract.planning.extract_options import STORE, RecordedDataRoot, StoreLocation
from epalm.options import DATA, Json, option

if TYPE_CHECKING:
    from epalm.cache.maintenance.media_check import MediaCheck
    from epalm.cache.store import Store

DAMAGED = 1
"""Exit code of `verify` for a store with damaged files."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """The options of `epalm-extract verify`."""

    location: StoreLocation
    deep: Annotated[
        bool,
        option("--deep", help="Compute every checksum, not just compare sizes.", panel=STORE),
    ] = False
    media: Annotated[
        bool,
        option(
            "--media",
            help="Also compare the media files with their size, time and hash in the store.",
            panel=DATA,
        ),
    ] = False
    data_root: RecordedDataRoot = None
    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """The options of `epalm-extract repair`."""

    location: StoreLocation
    as_json: Json = False


def verify(options: VerifyOptions) -> None:
    """Check that the files of a store are complete and intact.

    Compares the files with the store's commit records, and with --media the media files with their
    records. Exit code 1: a file is damaged or changed, 3: shards or media tables are missing.
    """
    from epalm.cache.maintenance import verify as checks

    location, deep = options.location, options.deep
    store = _open_damaged(location)
    problems = list(checks.verify_deep(store) if deep else checks.verify(store))
    missing = [] if problems else store.latest().missing_shards()
    check = _media_check(store, options.data_root) if options.media and not problems else None
    if options.as_json:
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


def repair(options: RepairOptions) -> None:
    """Delete damaged files of a store.

    Run the same extraction again to re-encode them. Do not repair a store that is being written.
    """
    from epalm.cache.maintenance import verify as checks

    location = options.location
    problems = checks.repair(_open_damaged(location))
    if options.as_json:
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


def _open_damaged(location: str) -> "Store":
    """A store at a location that is not empty; any of its files may be damaged."""
    from epalm.cache.formats.missing_store import missing_store_error
    from epalm.cache.store import Store

    store = Store.at(location)
    if not store.exists() and not store.storage.names(""):
        raise missing_store_error(location)
    return store


def _media_check(store: "Store", data_root: Path | None) -> "MediaCheck":
    from epalm.cache.maintenance.media_check import verify_media
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
