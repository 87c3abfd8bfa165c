"""A server on a free port of this machine, in a thread of the test's own process."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from epalm.serve.engine.service import Service
from epalm.serve.http.app import make_app
from epalm.serve.http.server import bind
from epalm.serve.requests.access import LOCAL_NAMES, Access

CHAT = "/v1/chat/completions"


@contextmanager
def running_server(
    service: Service, access: Access | None = None, *, allowed_hosts: frozenset[str] = frozenset()
) -> Iterator[httpx.Client]:
    """A client of a running server, which is shut down at the end."""
    app = make_app(service, access or Access("", LOCAL_NAMES), allowed_hosts=allowed_hosts)
    listener = bind("127.0.0.1", 0)
    listener.listen(1024)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def data_url(content: bytes, kind: str = "image/png") -> str:
    """A data: URL of a file's bytes."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def image_message(file: Path, question: str) -> dict[str, Any]:
    """A message with an image and a question."""
    image = {"type": "image_url", "image_url": {"url": data_url(file.read_bytes())}}
    return {"role": "user", "content": [image, {"type": "text", "text": question}]}


def chat_body(file: Path, question: str, **fields: object) -> dict[str, Any]:
    """The body of a request for an answer."""
    return {"messages": [image_message(file, question)], **fields}
