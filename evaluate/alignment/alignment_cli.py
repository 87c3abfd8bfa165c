"""`epalm-eval alignment`: rank encoder layers for a language model without training."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from epalm.console import configure_logging, note, say_json, show_table
from epalm.evaluate.alignment.alignment_options import AlignmentOptions
from epalm.options import add_command

if TYPE_CHECKING:
    from epalm.evaluate.alignment.measure import Alignment

ALIGNMENT_EXAMPLES = (
    "epalm-eval alignment cache/coco_vitb16.zarr --lm facebook/opt-125m",
    "epalm-eval alignment A.zarr B.zarr --lm path/to/lm --samples 2000",
)
"""Command lines that the help ends with."""


def add_commands(app: typer.Typer) -> None:
    """Register the command."""
    add_command(app, "alignment", AlignmentOptions, alignment, ALIGNMENT_EXAMPLES)


def alignment(options: AlignmentOptions) -> None:
    """Rank encoder layers for a language model, without training.

    The score, called alignment, is the mean overlap of each sample's nearest neighbors among
    features and among hidden states of its text. It ranks; whether it predicts scores of trained
    runs has to be measured.
    """
    configure_logging(quiet=options.quiet)
    from epalm.evaluate.alignment.measure import measure

    result = measure(options)
    if options.as_json:
        say_json(_as_json(result))
        return
    show_table(_table(result))
    note(
        f"unrelated representations have {result.chance:.4f}; the best layer of the language model "
        "is chosen by the same samples, so its value is somewhat too high"
    )


def _table(result: "Alignment") -> Table:
    title = (
        f"mutual {result.neighbors} nearest neighbors with {result.lm}, "
        f"{result.samples:,} samples of {result.task} {result.split}"
    )
    table = Table(title=title)
    for name in ("store", "encoder", "block", "token"):
        table.add_column(name, overflow="fold")
    for name in ("overlap", "95 % interval", "layer of the LM"):
        table.add_column(name, justify="right")
    layers = len(result.ranked[0].by_lm_layer) - 1
    for one in result.ranked:
        layer = one.layer
        table.add_row(
            Path(layer.store).name,
            Path(layer.encoder).name,
            str(layer.block),
            layer.token,
            f"{one.score:.4f}",
            f"{one.low:.4f} to {one.high:.4f}",
            f"{one.best} of {layers}",
        )
    return table


def _as_json(result: "Alignment") -> dict[str, Any]:
    return {
        "lm": result.lm,
        "task": result.task,
        "split": result.split,
        "samples": result.samples,
        "neighbors": result.neighbors,
        "chance": result.chance,
        "layers": [
            asdict(one.layer)
            | {"overlap": one.score, "low": one.low, "high": one.high, "best_lm_layer": one.best}
            | {"by_lm_layer": one.by_lm_layer}
            for one in result.ranked
        ],
    }
