"""Errors as OpenAI's API reports them: {"error": {"message", "type", "param", "code"}}."""

from typing import Any

from starlette.responses import JSONResponse

from epalm.errors import EpalmError, MediaError, UsageError
from epalm.serve.engine.service import ClosingError, QueueFullError

RETRY_SECONDS = "1"
"""Retry-After of refused requests."""

INVALID, SERVER, RATE = "invalid_request_error", "server_error", "rate_limit_error"
"""Types of errors."""


class ApiError(Exception):
    """An error with an HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = INVALID,
        retry: bool = False,
    ) -> None:
        """Describe the error.

        Args:
            status: HTTP status.
            message: a sentence: what was found, what was expected, how to fix it.
            code: short name for programs.
            param: path of the field in the request.
            kind: type of the error.
            retry: whether the same request may succeed later.
        """
        super().__init__(message)
        self.status, self.message, self.retry = status, message, retry
        self.code, self.param, self.kind = code, param, kind

    def body(self) -> dict[str, Any]:
        """The JSON object."""
        fields = {"message": self.message, "type": self.kind, "param": self.param}
        return {"error": fields | {"code": self.code}}

    def response(self) -> JSONResponse:
        """The HTTP response; the connection is closed, since a body may be left unread."""
        headers = {"Connection": "close"} if self.status in {408, 413} else {}
        if self.retry:
            headers["Retry-After"] = RETRY_SECONDS
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers=headers)


def field_error(message: str, param: str, code: str = "invalid_value") -> ApiError:
    """An error about one field of the request."""
    return ApiError(400, f"{param}: {message}", param=param, code=code)


def as_api_error(error: Exception) -> ApiError | None:
    """What a client is told about an exception; None for a defect of the server."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        message = "too many requests are waiting: try again later"
        return ApiError(429, message, code="queue_full", kind=RATE, retry=True)
    if isinstance(error, ClosingError):
        message = "the server is shutting down"
        return ApiError(503, message, code="shutting_down", kind=SERVER, retry=True)
    if isinstance(error, TimeoutError):
        message = "the answer took longer than the server allows: try again later"
        return ApiError(504, message, code="timeout", kind=SERVER, retry=True)
    if isinstance(error, MediaError):
        return ApiError(400, str(error), code="invalid_media", param="messages")
    if isinstance(error, UsageError):
        return ApiError(400, str(error), code="invalid_value")
    return None


def server_error(error: Exception) -> ApiError:
    """The answer to an unexpected exception, whose details stay in the log."""
    known = f": {type(error).__name__}" if isinstance(error, EpalmError) else ""
    return ApiError(500, f"the server failed{known}", code="internal_error", kind=SERVER)
