"""Reading of a request's JSON, limited in size and time."""

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from epalm.serve.requests.api_errors import ApiError
from epalm.untrusted.json_values import JSON_ERRORS, parse_error_reason

DISCARDED_BYTES = 64_000_000
"""Bytes that are read of a body that is refused for its size. A client that is still sending when
the connection ends gets an error of the connection, and not the reply."""


async def read_json(request: Request, *, limit: int, seconds: float) -> tuple[Any, int]:
    """The parsed body and its number of bytes.

    Args:
        request: the request.
        limit: largest number of bytes.
        seconds: time limit.

    Raises:
        ApiError: 413 if it is larger, 408 if it takes longer, 400 if it is no JSON.
    """
    try:
        async with asyncio.timeout(seconds):
            body = await _read(request, limit)
    except TimeoutError as error:
        raise ApiError(408, f"the body took longer than {seconds:g} s", code="timeout") from error
    except ClientDisconnect as error:
        raise ApiError(400, "the client has gone", code="disconnected") from error
    return await asyncio.to_thread(_parse, body), len(body)


async def _read(request: Request, limit: int) -> bytes:
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            body += part
        elif size > limit + DISCARDED_BYTES:
            break
    if size > limit:
        raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"the request is larger than {limit / 1e6:g} MB: send a smaller file, or start the server "
        "with a larger --max-upload-mb",
        code="request_too_large",
    )


def _parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(body)
    except JSON_ERRORS as error:
        is_json = isinstance(error, json.JSONDecodeError | RecursionError)
        reason = parse_error_reason(error) if is_json else str(error)[:100]
        raise ApiError(400, f"the body is no valid JSON: {reason}", code="invalid_json") from error
