"""The options of `epalm-eval`, each declared once, and those that its subcommands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from epalm.devices import AUTO
from epalm.options import (
    DATA,
    PERFORMANCE,
    AllowOutside,
    Common,
    Concatenate,
    Device,
    Json,
    LocalCache,
    LocalCacheSize,
    Quiet,
    option,
)
from epalm.plugins import TypedName

RUN, DECODING, REPORT = "Run", "Decoding", "Report"
"""Panels of the help, beside those that several commands have."""

Runs = Annotated[Path, option(help="Folder of all runs.", panel=RUN)]

LanguageModel = Annotated[
    str,
    option(
        help="Folder or hub id of the language model; default: where it was in training.",
        panel=RUN,
    ),
]

Dataset = Annotated[
    str,
    option(
        help="Dataset whose samples the report shows: a name, a manifest's path or "
        "module:factory; default: the store's.",
        panel=REPORT,
        parser=TypedName,
        metavar="<str>",
    ),
]

CompareBlind = Annotated[
    bool | None,
    option(
        "--compare-blind/--no-compare-blind",
        help="Whether the report shows the blind control of the same split, with its answer on "
        "each card; default: if it has been evaluated.",
        panel=REPORT,
    ),
]


Beams = Annotated[
    int | None,
    option(
        "--beams",
        min=1,
        help="Number of beams; 1: greedy. All decoding options default to the run's.",
        panel=DECODING,
    ),
]

MaxNewTokens = Annotated[
    int | None,
    option(
        min=1,
        help="Maximum number of generated tokens, the end token included.",
        panel=DECODING,
    ),
]

Sample = Annotated[
    bool | None,
    option(
        "--sample/--no-sample",
        help="Sample tokens instead of taking the most likely ones.",
        panel=DECODING,
    ),
]

Temperature = Annotated[float | None, option(help="Sampling temperature, above 0.", panel=DECODING)]

TopP = Annotated[
    float | None,
    option(
        help="Nucleus sampling: probability kept, above 0, at most 1.",
        panel=DECODING,
    ),
]

SamplingSeed = Annotated[
    int | None,
    option(min=0, max=10**12, help="Random seed of sampling.", panel=DECODING),
]


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What to evaluate and how; a value of None leaves a setting as it is in the run."""

    split: Annotated[str, option(help="Split to evaluate, e.g. val. Required.", panel=DATA)] = ""
    task: Annotated[
        str,
        option(
            help="Task to evaluate, with --features of its dataset; default: the run's.",
            panel=DATA,
            parser=TypedName,
            metavar="<str>",
        ),
    ] = ""
    features: Annotated[
        list[str] | None,
        option(
            help="Feature store, path or URL, again for each store that the run joins; default: "
            "those used in training.",
            panel=DATA,
        ),
    ] = None
    common: Common = False
    concatenate: Concatenate = False
    data_root: Annotated[
        Path | None,
        option(help="Folder of the task's files; default: the one used in training.", panel=DATA),
    ] = None
    limit: Annotated[
        int, option(min=0, help="Evaluate the first N examples only; 0: all.", panel=DATA)
    ] = 0
    blind: Annotated[
        bool,
        option(
            "--blind",
            help="Control: answer with the features of other samples of the split.",
            panel=DATA,
        ),
    ] = False
    views: Annotated[
        int,
        option(
            min=1,
            help="Average the features over the store's first N views; 1: the view without "
            "augmentation.",
            panel=DATA,
        ),
    ] = 1
    compare_blind: CompareBlind = None
    dataset: Dataset = ""
    allow_outside: AllowOutside = False

    run: Annotated[
        str, option(help="Run folder, or its name in --runs; default: the newest.", panel=RUN)
    ] = ""
    runs: Runs = Path("runs")
    lm: LanguageModel = ""

    num_beams: Beams = None
    max_new_tokens: MaxNewTokens = None
    do_sample: Sample = None
    temperature: Temperature = None
    top_p: TopP = None
    seed: SamplingSeed = None
    answers: Annotated[
        str,
        option(
            help="Closed-vocabulary evaluation by log-likelihood: a file with one answer per line, "
            "or top-1000, the most frequent answers of the training split.",
            panel=DECODING,
        ),
    ] = ""

    device: Device = AUTO
    batch_size: Annotated[
        int, option(min=1, max=1_000_000, help="Examples per batch.", panel=PERFORMANCE)
    ] = 64
    local_cache: LocalCache = None
    local_cache_size: LocalCacheSize = ""
    reader: Annotated[
        Literal["auto", "ram", "mapped", "pread"],
        option(
            help="Where features are read from; auto: RAM if they fit, else disk.",
            panel=PERFORMANCE,
        ),
    ] = "auto"

    as_json: Json = False
    quiet: Quiet = False
