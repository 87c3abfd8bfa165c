"""`epalm-serve`: a trained run behind an HTTP API and a web page."""

import logging
import os
from typing import TYPE_CHECKING

import typer

from epalm.ask.find_run import find_or_fetch_run
from epalm.console import configure_logging, note, run_app, say, say_json
from epalm.errors import MissingToolError
from epalm.options import PanelCommand, command_from
from epalm.serve.serve_options import ServeOptions

if TYPE_CHECKING:
    from epalm.serve.engine.service import Service

EXAMPLES = (
    "epalm-serve runs/NAME",
    "epalm-serve runs/NAME --blind runs/NAME_blind --store cache/NAME.zarr",
    "epalm-serve NAME --host 0.0.0.0 --port 8080 --api-key KEY",
)
"""Command lines that the help ends with."""

BACKLOG = 1024
"""Connections that the system accepts ahead of the server."""

KEY_VARIABLE = "EPALM_API_KEY"
"""Environment variable of the API key, which other users cannot read in a list of processes."""


def command(options: ServeOptions) -> None:
    """Serve a trained run: an OpenAI-compatible API and a web page.

    Answers questions about images, videos or audio clips that clients upload, until Ctrl-C or
    SIGTERM; requests in flight are finished then.
    """
    configure_logging(quiet=options.quiet)
    _check_packages()
    from epalm.serve.http.server import bind, is_local, run_server
    from epalm.serve.requests.access import LOCAL_NAMES, Access

    listener = bind(options.host, options.port)
    key = options.api_key or os.environ.get(KEY_VARIABLE, "")
    local = is_local(options.host)
    if not local:
        _warn(options.host, key)
    service = load_service(options)

    from epalm.serve.http.app import make_app

    access = Access(key, LOCAL_NAMES if local else ())
    app = make_app(service, access, allowed_hosts=frozenset(options.allow_url or ()))
    host = f"[{options.host}]" if ":" in options.host else options.host
    listener.listen(BACKLOG)
    url = f"http://{host}:{listener.getsockname()[1]}"
    if options.as_json:
        say_json({"run": service.model.record.name, "url": url})
    else:
        say(f"serving {service.model.record.name} on {url}")
    run_server(app, listener, request_seconds=options.timeout)
    note("stopped; all requests were finished")


def load_service(options: ServeOptions) -> "Service":
    """Load the run, its blind control and the store, and start the processes."""
    from epalm.ask.adapters.blind_control import load_blind_control
    from epalm.ask.run_model import load
    from epalm.serve.engine.neighbors import NeighborIndex
    from epalm.serve.engine.service import Limits, Service

    folder = find_or_fetch_run(options.runs, options.run)
    model = load(folder, lm=options.lm, weights=options.weights or "", device=options.device)
    blind = load_blind_control(model.loaded, options.blind, model.device) if options.blind else None
    index = None
    if options.store:
        index = NeighborIndex.read(
            options.store, model.record, model.modality, data_root=options.data_root
        )
    limits = Limits(
        upload_bytes=round(options.max_upload_mb * 1e6),
        request_seconds=options.timeout,
        queue=options.queue,
        batch_size=options.batch_size,
        decoders=options.decoders,
        max_new_tokens=options.max_new_tokens,
    )
    return Service(model, limits, blind, index)


def _check_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingToolError(
            f"epalm-serve needs {error.name}: run `pip install 'epalm[serve]'`"
        ) from error


def _warn(host: str, key: str) -> None:
    logger = logging.getLogger(__name__)
    logger.warning("listening on %s, which other machines can reach, without encryption", host)
    if not key:
        logger.warning("everybody who reaches it can use it: set --api-key or %s", KEY_VARIABLE)


app = typer.Typer(add_completion=False)
app.command(cls=PanelCommand)(command_from(ServeOptions, command))


def main() -> None:
    """Entry point of `epalm-serve`."""
    run_app(app, examples=EXAMPLES)
