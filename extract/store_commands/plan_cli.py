"""The command `epalm-extract plan`, which builds the sample index of a large dataset."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from epalm.console import (
    byte_size,
    configure_logging,
    counted,
    progress,
    say,
    say_json,
    stoppable,
)
from epalm.errors import UsageError
from epalm.extract.planning.extract_options import STORE
from epalm.extract.planning.process_shards import ProcessShard
from epalm.options import DATA, PERFORMANCE, AllowOutside, Json, Quiet, option
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.cache.index.sample_index import SampleIndex


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The options of `epalm-extract plan`."""

    dataset: Annotated[
        str | None,
        option(
            help="Dataset, or path of a manifest, or of a folder of tar files, Parquet tables or "
            "media files; default: the samples of the store --out.",
            panel=DATA,
        ),
    ] = None
    data_root: Annotated[
        Path | None,
        option(help="Folder of the dataset; default: $EPALM_DATA_ROOT.", panel=DATA),
    ] = None
    allow_outside: AllowOutside = False
    out: Annotated[
        str | None,
        option(help="Path or URL of the store, beside which the index is.", panel=STORE),
    ] = None
    index: Annotated[
        Path | None,
        option(help="Folder of the index; default: that of --out.", panel=STORE),
    ] = None
    part: Annotated[
        str,
        option(help="i/n: build part i of n, from 0/n on.", panel=PERFORMANCE),
    ] = ""
    fresh: Annotated[
        bool,
        option("--fresh", help="Delete the index and build it again.", panel=STORE),
    ] = False
    as_json: Json = False
    quiet: Quiet = False


def plan(options: PlanOptions) -> None:
    """Build the sample index of a dataset or store.

    Extraction, training and lookups then read keys and locations from it, and no process lists
    all samples. Several processes can build the index of a dataset, each with its own --part i/n.
    """
    from epalm.cache.index.index_files import default_index

    configure_logging(quiet=options.quiet)
    if options.index is None and options.out is None:
        raise UsageError("--out STORE or --index FOLDER must be given, to say where the index is")
    folder = options.index or default_index(options.out or "")
    build = _index_of_store if options.dataset is None else _index_of_dataset
    index = build(options, folder)
    count = None if index is None else len(index)
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if options.as_json:
        say_json({"index": str(folder), "samples": count, "bytes": nbytes})
    elif count is None:
        say(f"{folder}: part {options.part} is built; the last process completes the index")
    else:
        say(f"{folder}: {counted(count, 'sample')}, {byte_size(nbytes)}")


def _index_of_dataset(options: PlanOptions, folder: Path) -> "SampleIndex | None":
    from epalm.extract.indexing.index_source import dataset_source
    from epalm.extract.indexing.indexed_dataset import build_index

    process = ProcessShard.parse(options.part, "--part") if options.part else ProcessShard()
    if options.fresh and folder.is_dir():
        _delete(folder)
    with stoppable():
        source = dataset_source(
            TypedName(options.dataset or ""),
            options.data_root,
            allow_outside=options.allow_outside,
        )
        return build_index(
            source, folder, part=process.rank, parts=process.world_size, quiet=options.quiet
        )


def _index_of_store(options: PlanOptions, folder: Path) -> "SampleIndex":
    """The index of the samples of a store, as an old store has none.

    Raises:
        UsageError: there is no store to read them from, or --part is given.
    """
    from epalm.cache.maintenance.store_index import index_store
    from epalm.cache.store import Store

    if options.out is None or options.part:
        raise UsageError(
            "--dataset must be given, unless --out is a store whose samples the index gets, in "
            "one process"
        )
    store = Store.open(options.out)
    if options.fresh and folder.is_dir():
        _delete(folder)
    total = store.spec.count
    with (
        stoppable(),
        progress("indexing", total=total, unit="samples", quiet=options.quiet) as tick,
    ):
        return index_store(store, folder, tick)


def _delete(folder: Path) -> None:
    """Delete an index, and nothing else.

    Raises:
        UsageError: the folder has other files.
    """
    own = {"index.json", ".lock", "units", "parts", "table"}
    other = [path.name for path in folder.iterdir() if path.name not in own | _temporary(folder)]
    if other:
        raise UsageError(
            f"--fresh deletes only an index, and {folder} contains {other[0]}: give another --index"
        )
    shutil.rmtree(folder)


def _temporary(folder: Path) -> set[str]:
    return {path.name for pattern in ("sort-*", ".*.new") for path in folder.glob(pattern)}
