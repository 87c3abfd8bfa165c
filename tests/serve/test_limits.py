"""Limits on size, number and time, and what happens to decoding processes and foreign hosts."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epalm.ask.run_model import load
from epalm.errors import MediaError
from epalm.serve.engine.decoders import Decoders
from epalm.serve.engine.service import Limits, Service
from epalm.serve.requests.access import Access
from epalm.serve.requests.api_errors import ApiError
from epalm.serve.requests.remote_files import RemoteFiles, public_address
from tests.ask.small_runs import SmallRun
from tests.serve.loaders import kill_or_refuse
from tests.serve.running import CHAT, chat_body, running_server


@pytest.fixture
def small_service(run: SmallRun) -> Iterator[Callable[..., Service]]:
    """Makes services with limits of their own; servers close them."""

    def make(**limits: float) -> Service:
        return Service(load(run.run, device="cpu"), Limits(decoders=1, **limits))  # type: ignore[arg-type]

    yield make


def hold(service: Service, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let the model thread wait for an event before each batch."""
    released = threading.Event()
    encode = service.model.encode_inputs

    def wait_and_encode(inputs: NDArray[np.generic]) -> NDArray[np.floating]:
        released.wait(30)
        return encode(inputs)

    monkeypatch.setattr(service.model, "encode_inputs", wait_and_encode)
    return released


def body_of(run: SmallRun) -> dict[str, Any]:
    return chat_body(run.file(run.predictions[0]), run.predictions[0]["prompt"])


def test_requests_beyond_the_queue_get_429_and_the_others_their_answers(
    small_service: Callable[..., Service], run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = small_service(queue=3)
    released = hold(service, monkeypatch)
    with running_server(service) as client, ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(client.post, CHAT, json=body_of(run)) for _ in range(3)]
        while service.active < 3 and not any(one.done() for one in waiting):
            time.sleep(0.01)
        refused = client.post(CHAT, json=body_of(run))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["code"] == "queue_full"
        assert client.get("/health").status_code == 200
        released.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        assert client.post(CHAT, json=body_of(run)).status_code == 200


def test_an_answer_that_takes_too_long_gets_504_and_leaves_its_place(
    small_service: Callable[..., Service], run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = small_service(queue=2, request_seconds=3.0)
    with running_server(service) as client:
        assert client.post(CHAT, json=body_of(run)).status_code in {200, 504}  # starts processes
        released = hold(service, monkeypatch)
        for stream in (False, True):
            late = client.post(CHAT, json=body_of(run) | {"stream": stream})
            assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        released.set()
        assert service.active == 0
        assert client.post(CHAT, json=body_of(run)).status_code == 200


def test_a_server_that_is_closing_refuses_with_503_and_finishes_what_it_has(
    small_service: Callable[..., Service], run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = small_service()
    released = hold(service, monkeypatch)
    with running_server(service) as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.post, CHAT, json=body_of(run))
        while not service.active and not waiting.done():
            time.sleep(0.01)
        service.closing = True
        refused = client.post(CHAT, json=body_of(run))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.get("/health").status_code == 503
        released.set()
        assert waiting.result().status_code == 200


def test_a_key_is_needed_where_one_is_set(
    small_service: Callable[..., Service], run: SmallRun
) -> None:
    with running_server(small_service(), Access("secret")) as client:
        assert client.get("/health").status_code == 200
        for path in ("/v1/models", "/metrics"):
            assert client.get(path).status_code == 401
            wrong = {"Authorization": "Bearer sécret".encode()}
            assert client.get(path, headers=wrong).status_code == 401
            given = {"Authorization": "Bearer secret"}
            assert client.get(path, headers=given).status_code == 200
        assert client.post(CHAT, json=body_of(run)).status_code == 401


@pytest.mark.parametrize(
    ("content", "reason", "seconds"),
    [(b"crash", "crashed", 30), (b"hang", "longer than", 0.3), (b"bad", "found b'bad'", 30)],
)
def test_a_decoder_that_dies_fails_its_own_sample_only(
    content: bytes, reason: str, seconds: float
) -> None:
    decoders = Decoders(kill_or_refuse, "image", count=1, limit_seconds=seconds)
    try:
        for _ in range(2):
            with pytest.raises(MediaError, match=reason) as caught:
                decoders._decode_upload(content)
            assert "the image cannot be decoded: " in str(caught.value)
    finally:
        decoders.close()


class Files(BaseHTTPRequestHandler):
    """A host with a file, redirects and a file that never ends."""

    def do_GET(self) -> None:
        target = {"/same": "/file", "/other": "http://other.example/file", "/loop": "/loop"}
        if location := target.get(self.path):
            self.send_response(302)
            self.send_header("Location", location)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"content" if self.path == "/file" else b"x" * 5000)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_files_of_allowed_hosts_are_fetched_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    host = HTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=host.serve_forever).start()
    base = f"http://files.example:{host.server_port}"
    remote = RemoteFiles(frozenset(("files.example",)), limit=1000, seconds=5)

    def refused(url: str) -> str:
        with pytest.raises(ApiError) as caught:
            remote.fetch(url, "url")
        assert caught.value.status == 400
        return caught.value.message

    try:
        with monkeypatch.context() as patched:
            patched.setattr(
                "epalm.serve.requests.remote_files.public_address", lambda _host, _port: "127.0.0.1"
            )
            assert remote.fetch(f"{base}/file", "url") == b"content"
            assert remote.fetch(f"{base}/same", "url") == b"content"
            assert "another host" in refused(f"{base}/other")
            assert "too many redirects" in refused(f"{base}/loop")
            assert "larger than" in refused(f"{base}/large")
        assert "--allow-url" in refused("http://other.example/file")
        local = RemoteFiles(frozenset(("localhost",)), limit=1000, seconds=5)
        with pytest.raises(ApiError, match="not public"):
            local.fetch(f"http://localhost:{host.server_port}/file", "url")
    finally:
        host.shutdown()
        host.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "0.0.0.0"])
def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(OSError, match="not public"):
        public_address(host, 80)
