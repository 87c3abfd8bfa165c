"""The command `epalm-extract`."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from epalm.console import configure_logging, err_console, out_console, run_app
from epalm.devices import AUTO
from epalm.errors import UsageError

if TYPE_CHECKING:
    from epalm.extract.plan import Settings

INCOMPLETE = 3
"""Exit code when some media could not be encoded."""

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def extract_features(
    context: typer.Context,
    encoder: Annotated[
        str | None,
        typer.Option(help="vit-ti16, vit-s16, vit-b16, vit-l16, timm:<name> or module:factory."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Set of media (coco, flickr8k, ...) or path of a manifest.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Local weights; default: the published ones from the hub.")
    ] = None,
    preprocessing: Annotated[
        Literal["official", "native"],
        typer.Option(help="As the published code does it, or as the encoder was trained."),
    ] = "official",
    layers: Annotated[int, typer.Option(min=1, help="Keep [CLS] of the last so many blocks.")] = 6,
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="Of the stored vectors.")
    ] = "float16",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="What the encoder multiplies in.")
    ] = "fp32",
    out: Annotated[
        Path | None, typer.Option(help="Default: cache/<dataset>_<encoder>.zarr.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where the data set lies; default: $EPALM_DATA_ROOT.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, ..., or auto: a GPU if there is one.")
    ] = AUTO,
    batch_size: Annotated[int, typer.Option(min=1, help="Media per pass of the encoder.")] = 64,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Decoding processes; default: fits the machine.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many media.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written and how long it takes.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the store and start over, instead of resuming.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only results and errors.")] = False,
) -> None:
    """Run a frozen encoder once over a set of media and store its [CLS] tokens.

    A run that was stopped goes on where it was when the same command is given again.
    """
    if context.invoked_subcommand is not None:
        return
    if encoder is None or dataset is None:
        raise UsageError(
            "which encoder, over which media? e.g. epalm-extract --encoder vit-b16 --dataset coco"
        )
    from epalm.extract.plan import Settings

    configure_logging(quiet=quiet)
    settings = Settings(
        encoder=encoder,
        dataset=dataset,
        weights=weights,
        preprocessing=preprocessing,
        layers=layers,
        dtype=dtype,
        precision=precision,
        out=out,
        data_root=data_root,
        device=device,
        batch_size=batch_size,
        workers=workers,
        limit=limit,
        quiet=quiet,
    )
    if dry_run:
        _estimate(settings, as_json=as_json)
    else:
        _extract(settings, fresh=fresh, as_json=as_json)


def _estimate(settings: "Settings", *, as_json: bool) -> None:
    from epalm.extract import plan, summary

    planned = plan.make_plan(settings)
    found = summary.estimate(planned)
    _say(summary.as_json(found, planned) if as_json else summary.describe_estimate(found, planned))


def _extract(settings: "Settings", *, fresh: bool, as_json: bool) -> None:
    from epalm.cache.store import create_store
    from epalm.extract import plan, run, summary

    planned = plan.make_plan(settings)
    if fresh:
        plan.start_over(planned.out)
    sink = create_store(planned.out, planned.spec, [item.key for item in planned.items])
    report = run.extract(planned.encoder, planned.items, sink, pace=planned.pace)
    _say(summary.as_json(report, planned) if as_json else summary.describe_report(report, planned))
    if report.failed:
        for line in summary.describe_failures(report, planned):
            err_console.print(line, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(INCOMPLETE)


def _say(line: str) -> None:
    out_console.print(line, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point; a termination signal stops the run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_app(app)
