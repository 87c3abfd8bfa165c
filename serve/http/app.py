"""The routes of a server."""

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

import epalm
from epalm.cache.formats.store_format import Features
from epalm.serve.chat.chat_request import parse_chat, read_features_request
from epalm.serve.chat.chat_stream import ChatExchange
from epalm.serve.engine.service import Service
from epalm.serve.http.metrics import CONTENT_TYPE, ServerMetrics
from epalm.serve.http.web_page import WebPage, load_page
from epalm.serve.requests.access import Access
from epalm.serve.requests.api_errors import SERVER, ApiError, as_api_error, server_error
from epalm.serve.requests.media_parts import Upload
from epalm.serve.requests.remote_files import RemoteFiles
from epalm.serve.requests.request_body import read_json

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Routes:
    """The handlers.

    Attributes:
        service: answers the requests.
        access: who may use the server.
        remote: fetches files.
        metrics: measurements.
        page: the web page.
    """

    service: Service
    access: Access
    remote: RemoteFiles
    metrics: ServerMetrics
    page: WebPage

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        service = self.service
        chat = parse_chat(
            await self._body(request), service.model, max_new_tokens=service.limits.max_new_tokens
        )
        exchange = ChatExchange(service, chat, partial(self._content, chat.upload))
        return await exchange.respond()

    async def features(self, request: Request) -> Response:
        """POST /v1/features."""
        body = await self._body(request)
        uploads, as_numbers = read_features_request(body, self.service.model)
        async with asyncio.timeout(self.service.limits.request_seconds):
            data = []
            for index, upload in enumerate(uploads):
                key, features = await self.service.features(await self._content(upload))
                data.append(_features_object(index, key, features, as_numbers=as_numbers))
        spec = {"layers": list(self.service.model.encoder.layers)}
        name = self.service.model.record.name
        return JSONResponse({"object": "list", "data": data, "model": name} | spec)

    async def models(self, _request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{name}."""
        name = self.service.model.record.name
        if request.path_params["name"] != name:
            raise ApiError(404, f"this server has the model {name!r} only", code="model_not_found")
        return JSONResponse(self._model())

    async def health(self, _request: Request) -> Response:
        """GET /health."""
        healthy = self.service.healthy
        status = "ok" if healthy else "shutting down"
        fields = {"status": status, "version": epalm.__version__}
        return JSONResponse(fields, 200 if healthy else 503)

    async def measurements(self, _request: Request) -> Response:
        """GET /metrics."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def web_page(self, _request: Request) -> Response:
        """GET /."""
        return HTMLResponse(self.page.html, headers=dict(self.page.headers))

    def _model(self) -> dict[str, Any]:
        model = self.service.model
        return {
            "id": model.record.name,
            "object": "model",
            "created": 0,
            "owned_by": "epalm",
            "epalm": {
                "modality": model.modality,
                "answers_questions": model.answers_questions,
                "base_model": model.record.model.lm.rpartition("/")[2],
                "encoder": model.encoder.name,
                "max_upload_bytes": self.service.limits.upload_bytes,
                "blind": self.service.blind is not None,
                "neighbors": 0 if self.service.index is None else len(self.service.index.keys),
            },
        }

    async def _body(self, request: Request) -> object:
        self.access.check_type(request)
        limits = self.service.limits
        body, size = await read_json(
            request, limit=limits.upload_bytes, seconds=limits.request_seconds
        )
        self.metrics.received(size)
        return body

    async def _content(self, upload: Upload) -> bytes:
        if not upload.url:
            return upload.content
        return await asyncio.to_thread(self.remote.fetch, upload.url, upload.param)

    def counted(self, route: str, handler: Handler) -> Handler:
        """A handler that takes a place among the requests in flight while it runs."""

        async def handle(request: Request) -> Response:
            self.service.enter()
            try:
                return await handler(request)
            finally:
                self.service.leave()

        return self.guarded(route, handle)

    def guarded(self, route: str, handler: Handler, *, open_to_all: bool = False) -> Handler:
        """A handler with access control, errors as JSON and measurements."""

        async def handle(request: Request) -> Response:
            started = time.monotonic()
            try:
                self.access.check_host(request)
                if not open_to_all:
                    self.access.check_key(request)
                response = await handler(request)
            except Exception as error:
                api_error = as_api_error(error)
                if api_error is None:
                    logger.exception("%s failed", route)
                    api_error = server_error(error)
                response = api_error.response()
            self.metrics.request(route, response.status_code, time.monotonic() - started)
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return handle


def make_app(service: Service, access: Access, *, allowed_hosts: frozenset[str]) -> FastAPI:
    """The application; the service is closed when it ends.

    Args:
        service: answers the requests.
        access: who may use the server.
        allowed_hosts: hosts whose files are fetched.
    """
    limits = service.limits
    remote = RemoteFiles(allowed_hosts, limits.upload_bytes, limits.request_seconds)
    routes = Routes(service, access, remote, ServerMetrics(service), load_page())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    # The pages of documentation that FastAPI generates load scripts from another host.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    table: Sequence[tuple[str, str, Handler]] = (
        ("POST", "/v1/chat/completions", routes.counted("chat", routes.chat)),
        ("POST", "/v1/features", routes.counted("features", routes.features)),
        ("GET", "/v1/models", routes.guarded("models", routes.models)),
        ("GET", "/v1/models/{name}", routes.guarded("models", routes.model)),
        ("GET", "/metrics", routes.guarded("metrics", routes.measurements)),
        ("GET", "/health", routes.guarded("health", routes.health, open_to_all=True)),
        ("GET", "/", routes.guarded("page", routes.web_page, open_to_all=True)),
    )
    for method, path, handler in table:
        app.add_route(path, handler, methods=[method])
    app.add_exception_handler(HTTPException, _http_error)
    return app


async def _http_error(_request: Request, error: Exception) -> Response:
    """A path or method that does not exist."""
    assert isinstance(error, HTTPException)
    kind = SERVER if error.status_code >= 500 else "invalid_request_error"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    response = ApiError(error.status_code, error.detail, code=code, kind=kind).response()
    response.headers.update(error.headers or {})
    return response


def _features_object(
    index: int, key: str, features: Features, *, as_numbers: bool
) -> dict[str, Any]:
    """One entry of the reply of /v1/features; bytes are little-endian, in C order."""
    little = features.astype(features.dtype.newbyteorder("<"), copy=False)
    values = features.tolist() if as_numbers else base64.b64encode(little.tobytes()).decode("ascii")
    return {
        "object": "features",
        "index": index,
        "key": key,
        "shape": list(features.shape),
        "dtype": features.dtype.name,
        "features": values,
    }
