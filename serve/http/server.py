"""Running an application until a signal ends it."""

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from epalm.errors import UsageError

CLOSE_SECONDS = 5
"""Time for which an idle connection is kept open."""


class SignalServer(uvicorn.Server):
    """A server that ends normally after SIGTERM or SIGINT; a second SIGINT does not wait."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle both signals; uvicorn would raise them again at the end."""

        def handle(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        signals = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, handle) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def bind(host: str, port: int) -> socket.socket:
    """A socket with an address, not yet listening; port 0 is a free port.

    Raises:
        UsageError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): choose another --port, "
            "or end the program that uses it"
        ) from error
    return listener


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run_server(app: FastAPI, listener: socket.socket, *, request_seconds: float) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished.

    Args:
        app: the application.
        listener: a bound socket.
        request_seconds: time limit of a request, and of the end.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=CLOSE_SECONDS,
        timeout_graceful_shutdown=int(request_seconds) + 1,
        ws="none",
    )
    SignalServer(config).run(sockets=[listener])
