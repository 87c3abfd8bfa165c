"""The options of `epalm-train` and of `epalm-train import`, each declared once.

A field is an option of the command line: its name, type and default are the option's, its text in
`--help` stands beside it. `epalm.options.command_from` makes the commands.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from epalm.devices import AUTO
from epalm.options import (
    DATA,
    PERFORMANCE,
    Common,
    Concatenate,
    Device,
    Json,
    LocalCache,
    LocalCacheSize,
    Quiet,
    option,
)
from epalm.precision import PrecisionName

MODEL, OPTIMIZATION, RUN_FOLDER = "Model", "Optimization", "Run folder"
"""Panels of the help, beside those that several commands have."""

DataRoot: TypeAlias = Annotated[
    Path | None,
    option(help="Folder of the task's files; default: the one used at extraction.", panel=DATA),
]
RunName: TypeAlias = Annotated[
    str,
    option(
        help="Name of the run folder; default: made of task, encoder, LM and variant.",
        panel=RUN_FOLDER,
    ),
]
ReplaceRun: TypeAlias = Annotated[
    bool,
    option("--fresh", help="Delete a run of that name instead of refusing.", panel=RUN_FOLDER),
]
RunsFolder: TypeAlias = Annotated[Path, option(help="Folder of all runs.", panel=RUN_FOLDER)]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Values of the options of `epalm-train`."""

    features: Annotated[
        list[str] | None,
        option(
            help="Feature store: path or URL of what epalm-extract wrote; give it again for each "
            "further store, which is joined by key. Required.",
            panel=DATA,
        ),
    ] = None
    common: Common = False
    concatenate: Concatenate = False
    task: Annotated[
        str, option(help="Task; default: the first that the store's dataset has.", panel=DATA)
    ] = ""
    data_root: DataRoot = None
    train_split: Annotated[
        str,
        option(help="Split to train on, e.g. standard_train; default: the task's.", panel=DATA),
    ] = ""
    val_split: Annotated[
        str, option(help="Split that selects the best epoch; default: the task's.", panel=DATA)
    ] = ""
    train_examples: Annotated[
        int,
        option(help="Number of training examples, drawn by --seed; 0: the recipe's.", panel=DATA),
    ] = 0
    train_fraction: Annotated[
        float,
        option(help="Fraction of the training examples, e.g. 0.01; 0: the recipe's.", panel=DATA),
    ] = 0.0
    limit: Annotated[
        int, option(help="Use the first N examples of each split only; 0: all.", panel=DATA)
    ] = 0

    lm: Annotated[
        str,
        option(help="Language model: hub id or local folder; default: the recipe's.", panel=MODEL),
    ] = ""
    precision: Annotated[
        PrecisionName | None,
        option(
            help="Precision of the language model; auto: the fastest native one; default: the "
            "recipe's, which is auto in the packaged recipes.",
            panel=MODEL,
        ),
    ] = None
    variant: Annotated[
        str,
        option(help="Method variant, e.g. full or magma; default: the recipe's.", panel=MODEL),
    ] = ""
    source_layers: Annotated[
        str,
        option(
            help="Encoder blocks to use: all, last-6, or 0,5,11; default: the recipe's.",
            panel=MODEL,
        ),
    ] = ""
    inject: Annotated[
        str,
        option(
            help="Layers that get features, e.g. 19:31; default: the variant's.",
            panel=MODEL,
        ),
    ] = ""

    recipe: Annotated[
        str,
        option(
            help="Recipe name or .toml path; default: the task's published one.",
            panel=OPTIMIZATION,
        ),
    ] = ""
    changes: Annotated[
        list[str] | None,
        option("--set", help="Change a recipe key, e.g. --set epochs=3.", panel=OPTIMIZATION),
    ] = None
    seed: Annotated[
        int,
        option(help="Random seed of initialization, data order and dropout.", panel=OPTIMIZATION),
    ] = 0
    blind: Annotated[
        bool,
        option(
            "--blind",
            help="Train a control on the features of other samples of the split.",
            panel=OPTIMIZATION,
        ),
    ] = False

    device: Device = AUTO
    reader: Annotated[
        Literal["auto", "gpu", "ram", "mapped", "stream", "pread"],
        option(
            help="Where features are read from; auto: GPU memory if they fit, else RAM, else disk.",
            panel=PERFORMANCE,
        ),
    ] = "auto"
    local_cache: LocalCache = None
    local_cache_size: LocalCacheSize = ""
    shard_weights: Annotated[
        bool,
        option(
            "--shard-weights",
            help="Under torchrun: shard the language model's layers across the processes.",
            panel=PERFORMANCE,
        ),
    ] = False
    text_states: Annotated[
        Path | None,
        option(
            help="Folder to cache the hidden states of texts below the first injected layer "
            "(variants lin, 6-connectors and late).",
            panel=PERFORMANCE,
            file_okay=False,
        ),
    ] = None
    dry_run: Annotated[
        bool,
        option("--dry-run", help="Report the memory required; train nothing.", panel=PERFORMANCE),
    ] = False

    name: RunName = ""
    out: RunsFolder = Path("runs")
    fresh: Annotated[
        bool,
        option("--fresh/--resume", help="Start over instead of resuming.", panel=RUN_FOLDER),
    ] = False
    track: Annotated[
        Literal["tensorboard", "wandb", "trackio"] | None,
        option(
            help="Tracker that gets losses, rates, scores and some predictions, too; needs "
            "epalm[NAME]; default: metrics.jsonl only.",
            panel=RUN_FOLDER,
        ),
    ] = None

    as_json: Json = False
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Values of the options of `epalm-train import`."""

    checkpoint: Annotated[
        Path,
        typer.Argument(help="Checkpoint of the official implementation, .pth or .safetensors."),
    ]
    features: Annotated[
        str, option(help="Feature store: path or URL of what epalm-extract wrote.", panel=DATA)
    ]
    task: Annotated[
        str, option(help="Task it was trained for; default: the store's first.", panel=DATA)
    ] = ""
    data_root: DataRoot = None

    lm: Annotated[str, option(help="OPT it was trained with: hub id or local folder.", panel=MODEL)]
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        option(help="Precision of the frozen OPT; default: fp16, as published.", panel=MODEL),
    ] = None
    variant: Annotated[
        str,
        option(help="Method variant, e.g. full; default: inferred from the tensors.", panel=MODEL),
    ] = ""
    changes: Annotated[
        list[str] | None,
        option("--set", help="Change a recipe key, e.g. --set inject=19:31.", panel=MODEL),
    ] = None

    name: RunName = ""
    out: RunsFolder = Path("runs")
    fresh: ReplaceRun = False

    as_json: Json = False
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class SoupOptions:
    """Values of the options of `epalm-train soup`."""

    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders, or their names in --out."),
    ]

    name: Annotated[
        str,
        option(help="Name of the new run folder; default: FIRST_soup.", panel=RUN_FOLDER),
    ] = ""
    out: RunsFolder = Path("runs")
    fresh: ReplaceRun = False

    as_json: Json = False
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Values of the options of `epalm-train sweep`."""

    sweep: Annotated[
        Path, typer.Argument(help="Sweep file in TOML: base settings, grid, members, halving.")
    ]
    device: Device = AUTO
    dry_run: Annotated[
        bool,
        option(
            "--dry-run",
            help="Check and list members, steps, memory and rough cost; train nothing.",
            panel=PERFORMANCE,
        ),
    ] = False

    name: Annotated[
        str,
        option(help="Name of the sweep's folder; default: that of the file.", panel=RUN_FOLDER),
    ] = ""
    out: RunsFolder = Path("runs")
    fresh: Annotated[
        bool,
        option("--fresh/--resume", help="Start over instead of resuming.", panel=RUN_FOLDER),
    ] = False

    as_json: Json = False
    quiet: Quiet = False
