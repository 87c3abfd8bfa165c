"""The options of `epalm-eval alignment`, each declared once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from epalm.devices import AUTO
from epalm.options import DATA, PERFORMANCE, Device, Json, Quiet, option
from epalm.plugins import TypedName
from epalm.precision import PrecisionName


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """The options of `epalm-eval alignment`."""

    stores: Annotated[
        list[str],
        typer.Argument(metavar="STORE...", help="Feature stores over the same samples."),
    ]
    lm: Annotated[str, option(help="Language model: hub id or local folder.", panel=DATA)]
    task: Annotated[
        str,
        option(
            help="Task with the samples' texts; default: the first that the first store has.",
            panel=DATA,
            parser=TypedName,
            metavar="<str>",
        ),
    ] = ""
    data_root: Annotated[
        Path | None,
        option(help="Folder of the task's files; default: the one used at extraction.", panel=DATA),
    ] = None
    split: Annotated[
        str,
        option(help="Split to draw samples from; default: the task's own.", panel=DATA),
    ] = ""
    samples: Annotated[
        int, option(min=3, max=20_000, help="Number of samples that are compared.", panel=DATA)
    ] = 1000
    neighbors: Annotated[
        int, option(min=1, max=200, help="Number of nearest neighbors of each sample.", panel=DATA)
    ] = 10
    seed: Annotated[
        int, option(min=0, max=10**12, help="Random seed of the drawn samples.", panel=DATA)
    ] = 0
    device: Device = AUTO
    precision: Annotated[
        PrecisionName,
        option(help="Precision of the language model; auto: the fastest.", panel=PERFORMANCE),
    ] = "fp32"
    batch_size: Annotated[
        int, option(min=1, max=1_000_000, help="Texts per batch.", panel=PERFORMANCE)
    ] = 32
    as_json: Json = False
    quiet: Quiet = False
