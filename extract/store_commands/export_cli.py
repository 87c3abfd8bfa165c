"""The subcommand `epalm-extract export`: copy a store into a format of another library."""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from epalm.console import configure_logging, counted, progress, say, say_json
from epalm.extract.planning.extract_options import STORE, StoreLocation
from epalm.options import Json, Quiet, option


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of `epalm-extract export`."""

    location: StoreLocation
    out: Annotated[
        str,
        option(
            help="Folder to write; a URL (s3://...) for parquet and safetensors.",
            panel=STORE,
        ),
    ]
    export_format: Annotated[
        Literal["parquet", "lance", "safetensors"],
        option(
            "--format",
            help="Format of the export: parquet and safetensors write a file per shard, lance one "
            "dataset.",
            panel=STORE,
        ),
    ]
    as_json: Json = False
    quiet: Quiet = False


def export(options: ExportOptions) -> None:
    """Copy a store to Parquet, Lance or safetensors.

    One shard is in memory at a time. Run the same command again to resume an interrupted export.
    """
    from epalm.cache.maintenance.exports.export_store import export_store
    from epalm.cache.store import Store

    configure_logging(quiet=options.quiet)
    store = Store.open(options.location)
    total = store.spec.count
    with progress("exporting", total=total, unit="records", quiet=options.quiet) as tick:
        report = export_store(store, options.out, options.export_format, tick=tick)
    if options.as_json:
        say_json(asdict(report))
        return
    records, shards = counted(report.records, "record"), counted(report.shards, "shard")
    say(
        f"{report.out}: {report.format}, {records} in {shards}, {report.failed} of them failed; "
        f"{counted(report.written, 'shard')} written"
    )
