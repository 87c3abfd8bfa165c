"""The options of `epalm-extract retry-failed`, each declared once: as a field of a dataclass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from epalm.devices import AUTO
from epalm.extract.planning.extract_options import ENCODER, RecordedDataRoot, StoreLocation
from epalm.options import DATA, AllowOutside, Device, Json, Quiet, option


@dataclass(frozen=True, kw_only=True)
class RetryOptions:
    """The options of `epalm-extract retry-failed`; None or "" for what the store has recorded."""

    location: StoreLocation
    encoder: Annotated[
        str,
        option(
            help="Encoder; default: the store's, required if that is a module:factory.",
            panel=ENCODER,
        ),
    ] = ""
    dataset: Annotated[
        str,
        option(
            help="Dataset; default: the store's, required if that is a module:factory.",
            panel=DATA,
        ),
    ] = ""
    weights: Annotated[
        Path | None,
        option(help="Weights of the encoder; default: the path used at extraction.", panel=ENCODER),
    ] = None
    data_root: RecordedDataRoot = None
    device: Device = AUTO
    allow_outside: AllowOutside = False
    as_json: Json = False
    quiet: Quiet = False
