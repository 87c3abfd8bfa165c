"""Files of hosts that are allowed by name, fetched with limits on size, time and addresses."""

import http.client
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from epalm.serve.requests.api_errors import ApiError

MAX_REDIRECTS = 3
PART_BYTES = 1 << 16
REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True)
class RemoteFiles:
    """Fetches files.

    Attributes:
        hosts: the allowed host names.
        limit: largest number of bytes.
        seconds: time limit.
    """

    hosts: frozenset[str]
    limit: int
    seconds: float

    def fetch(self, url: str, param: str) -> bytes:
        """The content of a file.

        Args:
            url: http or https URL.
            param: path of the field in the request.

        Raises:
            ApiError: the host is not allowed or has a private address, or fetching failed.
        """
        end = time.monotonic() + self.seconds
        for _ in range(MAX_REDIRECTS + 1):
            parts = self._checked(url, param)
            try:
                content, location = self._get(parts, end)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _failed(f"{parts.hostname} cannot be read ({error})", param) from error
            if not location:
                return content
            url = urljoin(url, location)
            if urlsplit(url).hostname != parts.hostname:
                raise _failed(f"{parts.hostname} redirects to another host", param)
        raise _failed("there are too many redirects", param)

    def _checked(self, url: str, param: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise _failed(f"the URL is invalid ({error})", param) from error
        if parts.scheme not in {"http", "https"} or host not in self.hosts:
            raise _failed(
                f"files of {host[:100]!r} are not fetched: send a data: URL, or start the server "
                "with --allow-url HOST",
                param,
            )
        return parts

    def _get(self, parts: SplitResult, end: float) -> tuple[bytes, str]:
        """The content and no location, or the location that the host redirects to."""
        assert parts.hostname is not None
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        connection = http.client.HTTPConnection(parts.hostname, port)
        # The address that was checked is the one that is connected to.
        plain = socket.create_connection(
            (public_address(parts.hostname, port), port), timeout=_left(end)
        )
        try:
            connection.sock = (
                ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
                if secure
                else plain
            )
            target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            connection.request("GET", target, headers={"User-Agent": "epalm-serve"})
            with connection.getresponse() as response:
                if response.status in REDIRECTS:
                    return b"", response.getheader("Location") or ""
                if response.status != 200:
                    raise ValueError(f"HTTP status {response.status}")
                return self._read(response, connection, end), ""
        finally:
            plain.close()
            connection.close()

    def _read(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, end: float
    ) -> bytes:
        content = bytearray()
        while part := response.read1(PART_BYTES):
            content += part
            if len(content) > self.limit:
                raise ValueError(f"the file is larger than {self.limit / 1e6:g} MB")
            if connection.sock:
                connection.sock.settimeout(_left(end))
        return bytes(content)


def public_address(host: str, port: int) -> str:
    """The first address of a host.

    Raises:
        OSError: it has none, or one that is not public, e.g. of this machine or a local network.
    """
    addresses = [
        str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ]
    if not addresses or not all(ipaddress.ip_address(one).is_global for one in addresses):
        raise OSError("its address is not public")
    return addresses[0]


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("it takes too long")
    return left


def _failed(reason: str, param: str) -> ApiError:
    return ApiError(400, f"{param}: {reason}", code="invalid_url", param=param)
