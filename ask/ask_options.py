"""The options of `epalm-ask`, each declared once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from epalm.devices import AUTO
from epalm.evaluate.preparation.eval_options import (
    DECODING,
    RUN,
    Beams,
    LanguageModel,
    MaxNewTokens,
    Runs,
    Sample,
    SamplingSeed,
    Temperature,
    TopP,
)
from epalm.options import DATA, AllowOutside, Device, Json, Quiet, option

MAX_ALTERNATIVES = 64
"""Largest number of alternatives; each takes a beam."""

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Folder of a run, its name in --runs, or user/name on the hub."
    ),
]

Weights = Annotated[
    Path | None,
    option(
        help="File or folder of the encoder's weights; default: where they were at extraction.",
        panel=RUN,
    ),
]


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """What to ask, and of which run; a value of None leaves a setting as it is in the run."""

    run: RunName
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar='FILE... ["QUESTION"]',
            help="Images, videos or audio clips, and a question about each of them. A run of "
            "captions takes none; a run of questions reads them line by line if none is given.",
        ),
    ] = None
    runs: Runs = Path("runs")
    jsonl: Annotated[
        Path | None,
        option(
            help='Answer the lines of a file, {"id": ..., "media": ..., "prompt": ...}, in place '
            "of FILE and QUESTION. The same command resumes.",
            panel=DATA,
        ),
    ] = None
    out: Annotated[
        Path | None,
        option(help="File of the answers to --jsonl; default: FILE.answers.jsonl.", panel=DATA),
    ] = None
    features: Annotated[
        str | None,
        option(
            help="Store of the features of --jsonl; default: in cache/, named after the file.",
            panel=DATA,
        ),
    ] = None
    allow_outside: AllowOutside = False
    lm: LanguageModel = ""
    weights: Weights = None
    top: Annotated[
        int,
        option(
            help="Also print the N most probable answers that beam search finds.",
            panel=DECODING,
            min=0,
            max=MAX_ALTERNATIVES,
        ),
    ] = 0
    num_beams: Beams = None
    max_new_tokens: MaxNewTokens = None
    do_sample: Sample = None
    temperature: Temperature = None
    top_p: TopP = None
    seed: SamplingSeed = None
    device: Device = AUTO
    as_json: Json = False
    quiet: Quiet = False
