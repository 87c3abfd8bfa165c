"""Repeat requests to an object store that failed for a moment: 503, timeouts, lost connections.

Every request of a store can be repeated: a file is written whole, always with the same bytes.
"""

import errno
from collections.abc import Callable
from random import uniform
from time import sleep
from typing import TypeVar

T = TypeVar("T")

TRIES = 7

FIRST_DELAY, MAX_DELAY = 0.2, 10.0
"""Seconds before the first repetition, and the longest ones; seven tries wait 11 to 22 s in all."""

TRANSIENT_STATUS = frozenset((408, 429, 500, 502, 503, 504))

TRANSIENT_ERRNO = frozenset(
    (
        *(errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.EPIPE, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH),
    )
)
"""Error numbers of OSError; s3fs raises EBUSY for SlowDown and 503."""

TRANSIENT_NAMES = frozenset(
    (
        *("ServerDisconnectedError", "ServerTimeoutError", "ClientPayloadError"),
        *("IncompleteRead", "ReadTimeoutError", "ConnectTimeoutError", "ConnectionClosedError"),
    )
)
"""Classes of aiohttp, http.client and botocore, which are not imported for this."""


def retried(request: Callable[[], T]) -> T:
    """The result of a request, repeated if it fails for a moment.

    Raises:
        Exception: the error of the last try, or at once one that repeating cannot fix.
    """
    for attempt in range(1, TRIES):
        try:
            return request()
        except Exception as error:
            if not is_transient(error):
                raise
        longest = min(MAX_DELAY, FIRST_DELAY * 2**attempt)
        sleep(uniform(longest / 2, longest))
    return request()


def is_transient(error: BaseException | None) -> bool:
    """Whether an error, or its cause, may go away by itself."""
    while error is not None:
        status = getattr(error, "status", None) or getattr(error, "code", None)
        if (
            isinstance(error, ConnectionResetError | ConnectionAbortedError | TimeoutError)
            or getattr(error, "errno", None) in TRANSIENT_ERRNO
            or status in TRANSIENT_STATUS
            or type(error).__name__ in TRANSIENT_NAMES
        ):
            return True
        error = error.__cause__
    return False
