"""The options of `epalm-serve`, each declared once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from epalm.ask.ask_options import RunName, Weights
from epalm.devices import AUTO
from epalm.evaluate.preparation.eval_options import RUN, LanguageModel, Runs
from epalm.options import DATA, PERFORMANCE, Device, Json, Quiet, option

NETWORK, LIMITS = "Network", "Limits"
"""Panels of the help, beside those that several commands have."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What to serve, where, and with which limits."""

    run: RunName
    runs: Runs = Path("runs")
    lm: LanguageModel = ""
    weights: Weights = None
    blind: Annotated[
        str, option(help="Blind control, whose answers the page shows too.", panel=RUN)
    ] = ""
    store: Annotated[
        str,
        option(
            help="Feature store of the same encoder, path or URL, whose nearest samples the page "
            "shows.",
            panel=DATA,
        ),
    ] = ""
    data_root: Annotated[
        Path | None,
        option(
            help="Folder of the store's samples; default: where they were at extraction.",
            panel=DATA,
        ),
    ] = None
    host: Annotated[
        str, option(help="Address to listen on; 0.0.0.0 for all networks.", panel=NETWORK)
    ] = "127.0.0.1"
    port: Annotated[
        int, option(min=0, max=65535, help="Port; 0 for a free one.", panel=NETWORK)
    ] = 8000
    api_key: Annotated[
        str,
        option(
            help="Key that clients must send as a bearer token; or set EPALM_API_KEY.",
            panel=NETWORK,
        ),
    ] = ""
    allow_url: Annotated[
        list[str] | None,
        option(
            help="Host whose http and https files requests may name; repeat it for several.",
            panel=NETWORK,
            metavar="<host>",
        ),
    ] = None
    max_upload_mb: Annotated[
        float, option(min=0.001, help="Largest request, MB.", panel=LIMITS)
    ] = 32.0
    timeout: Annotated[
        float, option(min=0.1, help="Time limit of a request, seconds.", panel=LIMITS)
    ] = 60.0
    queue: Annotated[
        int, option(min=1, help="Largest number of requests in flight.", panel=LIMITS)
    ] = 64
    max_new_tokens: Annotated[
        int, option(min=1, help="Largest number of tokens of an answer.", panel=LIMITS)
    ] = 256
    batch_size: Annotated[
        int, option(min=1, help="Largest number of requests of a batch.", panel=PERFORMANCE)
    ] = 32
    decoders: Annotated[
        int, option(min=1, help="Number of decoding processes.", panel=PERFORMANCE)
    ] = 2
    device: Device = AUTO
    as_json: Json = False
    quiet: Quiet = False
