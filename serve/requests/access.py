"""Who may use a server: API key, host name, and content type of requests."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from epalm.serve.requests.api_errors import ApiError

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine."""


@dataclass(frozen=True)
class Access:
    """The rules of a server.

    Attributes:
        key: the API key; empty for none.
        hosts: accepted values of the Host header without its port; empty for all. A server for this
            machine alone accepts its own names only, so that no web page can reach it under a name
            of its own.
    """

    key: str = ""
    hosts: Sequence[str] = ()

    def check_host(self, request: Request) -> None:
        """Refuse other names of this server.

        Raises:
            ApiError: 403.
        """
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.hosts and name.lower() not in self.hosts:
            raise ApiError(
                403,
                f"found the host {name[:100]!r}, this server is reached as "
                f"{' or '.join(self.hosts)}",
                code="wrong_host",
            )

    def check_key(self, request: Request) -> None:
        """Refuse requests without the API key.

        Raises:
            ApiError: 401.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" else ""
        if self.key and not hmac.compare_digest(given.encode(), self.key.encode()):
            raise ApiError(
                401,
                "the API key is missing or wrong: send the header Authorization: Bearer KEY",
                code="invalid_api_key",
            )

    def check_type(self, request: Request) -> None:
        """Refuse all but JSON, which pages of other sites cannot send without permission.

        Raises:
            ApiError: 415.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(
                415,
                f"found the content type {kind[:100]!r}, expected application/json",
                code="unsupported_content_type",
            )
