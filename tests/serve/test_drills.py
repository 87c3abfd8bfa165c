"""What strangers, loads and kills do to a server: nothing but their own requests fails."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ask.small_runs import SmallRun
from tests.serve.running import CHAT, chat_body, data_url

BODIES, REQUESTS = 10_000, 5000
HEADERS = {"Content-Type": "application/json"}

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e308, 10**400, "", "user", "text", "\ud800", "data:;base64,AAAA"),
    *([], {}, [[]], {"url": 3}, {"type": "text"}, {"type": "image_url", "image_url": "data:,"}),
)


def random_body(draw: random.Random, valid: dict[str, Any]) -> bytes:
    """Random bytes, a damaged valid body, or a valid body with random values in it."""
    kind = draw.randrange(3)
    if kind == 0:
        return draw.randbytes(draw.randrange(200))
    text = bytearray(json.dumps(valid).encode())
    if kind == 1:
        for _ in range(draw.randrange(1, 6)):
            text[draw.randrange(len(text))] = draw.randrange(256)
        return bytes(text[: draw.randrange(len(text) + 1)]) if draw.random() < 0.5 else bytes(text)
    return json.dumps(changed(draw, valid)).encode()


def changed(draw: random.Random, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value with some parts replaced."""
    if draw.random() < 0.12:
        return draw.choice(VALUES)
    if isinstance(value, dict):
        return {name: changed(draw, one) for name, one in value.items()}
    return [changed(draw, one) for one in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_random_bodies_never_get_status_500(client: httpx.Client, run: SmallRun) -> None:
    valid = chat_body(run.file(run.predictions[0]), "what is it?", temperature=0.5, logprobs=True)
    valid |= {"stream": False, "max_tokens": 2, "epalm": {"alternatives": 2, "blind": True}}
    draw = random.Random(0)
    found: Counter[int] = Counter()
    for number in range(BODIES):
        path = CHAT if number % 4 else "/v1/features"
        response = client.post(path, content=random_body(draw, valid), headers=HEADERS)
        found[response.status_code] += 1
        assert response.status_code < 500, (number, response.text)
    assert found[200] > 10 and found[400] > BODIES // 2, found
    assert client.get("/health").status_code == 200


def png_bomb(side: int) -> bytes:
    """A small PNG file of side x side black pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    packer, rows = zlib.compressobj(9), []
    for _ in range(side):
        rows.append(packer.compress(bytes(side // 8 + 2)))
    size = side.to_bytes(4, "big") * 2
    head = chunk(b"IHDR", size + bytes((1, 0, 0, 0, 0)))
    data = chunk(b"IDAT", b"".join(rows) + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


@pytest.mark.slow
def test_bombs_and_broken_files_get_4xx(client: httpx.Client, run: SmallRun) -> None:
    good = run.file(run.predictions[0]).read_bytes()
    files = [png_bomb(60_000), good[:40], good[:8] + os.urandom(500), b"RIFF" + bytes(1000)]
    for content in files:
        body = {"input": data_url(content)}
        response = client.post("/v1/features", json=body)
        assert 400 <= response.status_code < 500, response.text
    assert client.post("/v1/features", json={"input": data_url(good)}).status_code == 200


class ServerProcess:
    """`epalm serve` in a process of its own."""

    def __init__(self, run: SmallRun, folder: Path) -> None:
        command = [sys.executable, "-m", "epalm", "serve", str(run.run), "--port", "0", "--quiet"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(folder)}
        )
        assert self.process.stdout
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found
        self.client = httpx.Client(base_url=found[0], timeout=60, trust_env=False)

    def children(self) -> list[int]:
        """Ids of the decoding processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        threads = path.parent.parent.glob("*/children")
        return [int(word) for file in threads for word in file.read_text().split()]

    def memory_mb(self) -> float:
        """Resident memory of the main process, MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (size,) = re.findall(r"VmRSS:\s+(\d+)", text)
        return int(size) / 1024

    def end(self, number: int) -> int:
        """Send a signal, and wait: the exit code."""
        self.client.close()
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def gone(pids: list[int]) -> bool:
    """Whether processes end within some seconds."""
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_ended_server_leaves_nothing_behind_and_loses_requests_in_flight_at_most(
    run: SmallRun, folder: Path, number: int
) -> None:
    body = chat_body(run.file(run.predictions[0]), run.predictions[0]["prompt"])

    def ask(server: ServerProcess) -> int:
        try:
            return server.client.post(CHAT, json=body).status_code
        except httpx.HTTPError:
            return 0

    server = ServerProcess(run, folder)
    assert ask(server) == 200
    children = server.children()
    assert children
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(ask, server) for _ in range(40)]
        time.sleep(0.3)
        server.process.send_signal(number)
        found = {one.result() for one in waiting}
    assert found <= ({200, 0} if number == signal.SIGKILL else {200, 503, 0}), found
    code = server.end(number)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert gone(children)
    assert [path for path in folder.iterdir() if "epalm" in path.name] == []
    again = ServerProcess(run, folder)
    assert ask(again) == 200
    assert again.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_memory_stays_bounded_over_many_requests(run: SmallRun, folder: Path) -> None:
    server = ServerProcess(run, folder)
    prediction = run.predictions[0]
    body = chat_body(run.file(prediction), prediction["prompt"])

    def ask(number: int) -> str:
        response = server.client.post(CHAT, json=body | {"stream": number % 5 == 0})
        return str(response.status_code)

    try:
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(ask, range(500))) == {"200"}
            before = server.memory_mb()
            assert set(threads.map(ask, range(REQUESTS - 500))) == {"200"}
            after = server.memory_mb()
        open_files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    finally:
        assert server.end(signal.SIGTERM) == 0
    assert after < before + 50, (before, after)
    assert open_files < 60
