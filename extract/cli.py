"""The command `epalm-extract`."""

import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from epalm.console import configure_logging, note, run_app, say, show_table, stoppable
from epalm.devices import AUTO
from epalm.errors import INCOMPLETE, UsageError
from epalm.extract.store_cli import AllowOutside, add_commands
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.extract.decoding.decode_pool import DecodePool
    from epalm.extract.planning.extract_options import Inputs

logger = logging.getLogger(__name__)

EXAMPLES = (
    "epalm-extract --encoder vit-b16 --dataset coco --data-root /data",
    "epalm-extract --encoder vit-b16 --dataset path/to/folder --dry-run",
    "epalm-extract status cache/coco_vitb16.zarr",
)
"""Command lines that the help ends with."""

app = typer.Typer(add_completion=False)
add_commands(app)


@app.callback(invoke_without_command=True)
def extract_features(
    context: typer.Context,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Frozen encoder: vit-ti16, vit-s16, vit-b16, vit-l16, clip-vit-l14, "
            "timesformer-b, ast, timm:<name>, hf:<id or folder> or module:factory."
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Data set (coco, flickr8k, ...), or path of a manifest or its folder."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Local file or folder of weights; default: the published ones from the hub."
        ),
    ] = None,
    preprocessing: Annotated[
        Literal["official", "native"],
        typer.Option(
            help="Resizing and normalization: those of eP-ALM's code, or the encoder's own."
        ),
    ] = "official",
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames per clip; default: as the encoder was trained."),
    ] = None,
    frames_pool: Annotated[
        Literal["mean"] | None,
        typer.Option(help="Encode clips with an image encoder: average over frames."),
    ] = None,
    tokens: Annotated[
        Literal["cls", "all"],
        typer.Option(help="Tokens to keep of each block: [CLS] only, or all."),
    ] = "cls",
    source_layers: Annotated[
        str,
        typer.Option(
            help="Blocks to keep: all, last-6, or 0,5,11; default: last-6, with --tokens all "
            "last-1."
        ),
    ] = "",
    views: Annotated[
        int, typer.Option(min=1, help="Views per sample; all but the first are augmented.")
    ] = 1,
    augmentation: Annotated[
        Literal["official", "no-flip"],
        typer.Option(help="Augmentation of all views but the first."),
    ] = "official",
    seed: Annotated[
        int, typer.Option(min=0, max=10**12, help="Random seed of the augmented views.")
    ] = 0,
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="Type of the stored features.")
    ] = "float16",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(
            help="Precision of the encoder; auto: the fastest that the device has natively."
        ),
    ] = "auto",
    out: Annotated[
        str | None,
        typer.Option(
            help="Path or URL (s3://...) of the store; default: cache/<dataset>_<encoder>.zarr."
        ),
    ] = None,
    store_format: Annotated[
        Literal["zarr", "hdf5"] | None,
        typer.Option(
            "--format", help="Format of the store; default: by the suffix of --out, else zarr."
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the data set; default: $EPALM_DATA_ROOT.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Device: cpu, cuda, cuda:1, mps (untested), or auto: a GPU if there is one."
        ),
    ] = AUTO,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Samples per batch; default: 64 images, 8 clips, 16 audio clips.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, max=1024, help="Decoding processes; default: chosen from the number of cores."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Encode the first N samples only; the default --out ends in _firstN then."
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            help="i/n: shard i of n of the work; default: from torchrun's or SLURM's variables."
        ),
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate the time and size of the run; write nothing."),
    ] = False,
    benchmark: Annotated[
        bool,
        typer.Option(
            "--benchmark", help="Time decoding, transform, encoding and writing; keep no store."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the store and start over, instead of resuming.")
    ] = False,
    allow_outside: AllowOutside = False,
    content_hash: Annotated[
        bool,
        typer.Option(
            "--content-hash", help="Record a SHA-256 of each sample beside its size and time."
        ),
    ] = False,
    changed_media: Annotated[
        Literal["encode", "keep"] | None,
        typer.Option(
            help="Samples whose file changed: encode their shards again, or keep (no file is "
            "checked). Default: encode, but stop if all differ in time alone, as in a copy."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
) -> None:
    """Run a frozen encoder once over a data set and store its features.

    Run the same command again to resume an interrupted run.

    Several processes or machines can fill one store together, each with its own --shard i/n.
    """
    if context.invoked_subcommand is not None:
        return
    missing = [
        name for name, value in (("--encoder", encoder), ("--dataset", dataset)) if value is None
    ]
    if encoder is None or dataset is None:
        raise UsageError(
            f"{' and '.join(missing)} must be given, "
            "e.g. epalm-extract --encoder vit-b16 --dataset coco"
        )
    if benchmark and dry_run:
        raise UsageError("--dry-run or --benchmark, not both at once")
    configure_logging(quiet=quiet)
    with stoppable():
        from epalm.extract.planning.extract_options import Settings, read_inputs
        from epalm.extract.planning.process_shards import ProcessShard

        settings = Settings(
            encoder=TypedName(encoder),
            dataset=TypedName(dataset),
            weights=weights,
            preprocessing=preprocessing,
            frames=frames,
            frames_pool=frames_pool or "",
            tokens=tokens,
            source_layers=source_layers,
            views=views,
            augmentation=augmentation,
            seed=seed,
            dtype=dtype,
            precision=precision,
            fresh=fresh,
            out=out,
            store_format=store_format,
            data_root=data_root,
            device=device,
            batch_size=batch_size,
            workers=workers,
            limit=limit,
            share=ProcessShard.parse(shard) if shard else ProcessShard.from_environment(os.environ),
            quiet=quiet,
            content_hash=content_hash,
            allow_outside=allow_outside,
        )
        # Below this torch is imported: every mistake that can be found without it is found here.
        inputs = read_inputs(settings)
        if benchmark:
            _benchmark(inputs, as_json=as_json)
        elif dry_run:
            _estimate(inputs, as_json=as_json)
        else:
            _extract(inputs, fresh=fresh, changed_media=changed_media, as_json=as_json)


def _estimate(inputs: "Inputs", *, as_json: bool) -> None:
    from epalm.extract import extraction_report
    from epalm.extract.planning import extraction_plan

    planned = extraction_plan.make_plan(inputs)
    found = extraction_report.estimate(planned)
    say(
        extraction_report.as_json(found, planned)
        if as_json
        else extraction_report.describe_estimate(found, planned)
    )


def _benchmark(inputs: "Inputs", *, as_json: bool) -> None:
    from epalm.extract import stage_timing
    from epalm.extract.planning import extraction_plan

    found = stage_timing.measure(extraction_plan.make_plan(inputs))
    if as_json:
        say(stage_timing.as_json(found))
    else:
        show_table(stage_timing.table(found))


def _extract(inputs: "Inputs", *, fresh: bool, changed_media: str | None, as_json: bool) -> None:
    """Start the decoding processes before torch is imported and the encoder is loaded."""
    from epalm.extract.decoding.decode_pool import DecodePool
    from epalm.extract.planning.extract_options import default_workers

    asked = inputs.settings.workers
    workers = default_workers("cpu") if asked is None else asked
    if not workers:
        logger.info("loading %s", inputs.settings.encoder)
        _fill_store(inputs, None, fresh=fresh, changed_media=changed_media, as_json=as_json)
        return
    processes = f"{workers} decoding {'process' if workers == 1 else 'processes'}"
    logger.info("starting %s, loading %s", processes, inputs.settings.encoder)
    with DecodePool(workers, inputs.items[0].modality if inputs.items else "image") as pool:
        _fill_store(inputs, pool, fresh=fresh, changed_media=changed_media, as_json=as_json)


def _fill_store(
    inputs: "Inputs",
    pool: "DecodePool | None",
    *,
    fresh: bool,
    changed_media: str | None,
    as_json: bool,
) -> None:
    from epalm.cache.create_store import create_store, delete_store
    from epalm.cache.records.extraction_log import delete_extraction_log
    from epalm.cache.store import Store
    from epalm.extract import extraction_report, run_extraction
    from epalm.extract.incomplete_media import incomplete_listed
    from epalm.extract.planning import changed_shards, extraction_plan

    planned = extraction_plan.make_plan(inputs)
    if pool:
        pool.grow(planned.pace.workers)  # a GPU is fed by more than are started on a guess
    present = Store.at(planned.out, planned.store_format)
    if fresh and present.storage.names(""):
        delete_store(present)
        delete_extraction_log(planned.out)
    store = create_store(planned.out, planned.spec, planned.keys, store_format=planned.store_format)
    with incomplete_listed(planned.out):
        report = run_extraction.extract(
            planned.encoder,
            planned.items,
            store,
            pace=planned.pace,
            share=planned.share,
            root=planned.root,
            again=changed_shards.shards_to_make_again(planned, store, changed_media),
            pool=pool,
        )
    extraction_report.note_report(report, planned, inputs.settings.device)
    say(
        extraction_report.as_json(report, planned)
        if as_json
        else extraction_report.describe_report(report, planned)
    )
    if report.failed:
        for line in extraction_report.describe_failures(report, planned, store):
            note(line)
        if planned.share.count == 1:  # torchrun would end the others when one does not return 0
            raise typer.Exit(INCOMPLETE)


def main() -> None:
    """Entry point; a termination signal stops the run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_app(app, examples=EXAMPLES)
