"""Requests that a server refuses, each with a status and a reason."""

from typing import Any

import httpx
import pytest

from tests.ask.small_runs import SmallRun
from tests.serve.running import CHAT, chat_body, data_url

BROKEN: list[tuple[dict[str, Any], int, str]] = [
    ({"messages": []}, 400, "0 messages"),
    ({"messages": [{"role": "system", "content": "be brief"}]}, 400, "expected 'user'"),
    ({"messages": [{"role": "user", "content": "hello"}]}, 400, "found 0 samples"),
    ({"n": 2}, 400, "not supported"),
    ({"stop": ["."]}, 400, "not supported"),
    ({"temperature": "hot"}, 400, "expected a number"),
    ({"temperature": 10**400}, 400, "expected a number"),
    ({"stream": 1}, 400, "true or false"),
    ({"top_logprobs": 3}, 400, "needs logprobs"),
    ({"model": "other"}, 404, "does not exist"),
    ({"epalm": {"alternatives": 1000}}, 400, "0 to 20"),
]


@pytest.mark.parametrize(("fields", "status", "message"), BROKEN, ids=lambda value: str(value)[:40])
def test_wrong_fields_are_refused_with_their_names(
    client: httpx.Client, run: SmallRun, fields: dict[str, Any], status: int, message: str
) -> None:
    prediction = run.predictions[0]
    body = chat_body(run.file(prediction), prediction["prompt"]) | fields
    response = client.post(CHAT, json=body)
    assert (response.status_code, message in response.text) == (status, True), response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,!!"}}, "base64"),
        ({"type": "image_url", "image_url": {"url": data_url(b"no image")}}, "cannot be decoded"),
        ({"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}, "--allow-url"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "expected data:"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}}, "takes image samples"),
        ({"type": "image_url"}, "missing or empty"),
        ({"type": "file"}, "expected one of"),
        ("text", "expected an object"),
    ],
    ids=range(8),
)
def test_a_sample_that_cannot_be_used_is_refused(
    client: httpx.Client, part: object, message: str
) -> None:
    content = [part, {"type": "text", "text": "what is it?"}]
    for stream in (False, True):
        body = {"messages": [{"role": "user", "content": content}], "stream": stream}
        response = client.post(CHAT, json=body)
        assert (response.status_code, message in response.text) == (400, True), response.text
        assert "/proc/" not in response.text


def test_a_question_longer_than_the_language_model_is_refused(
    client: httpx.Client, run: SmallRun
) -> None:
    body = chat_body(run.file(run.predictions[0]), "what is it " * 500)
    response = client.post(CHAT, json=body)
    assert (response.status_code, "positions" in response.text) == (400, True), response.text


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe", 400),
        (b'{"messages": 1' + b"0" * 10_000 + b"}", 400),
        (b"null", 400),
        (b'{"model": "\\ud800"}', 400),
        (b"x" * 3_000_000, 413),
    ],
    ids=range(8),
)
def test_a_malformed_body_is_refused(client: httpx.Client, content: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    assert client.post(CHAT, content=content, headers=headers).status_code == status
    parts = iter([content[:10], content[10:]])  # chunked, without a length
    assert client.post(CHAT, content=parts, headers=headers).status_code == status


def test_paths_methods_and_types_that_do_not_exist_are_refused(client: httpx.Client) -> None:
    assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert client.get(CHAT).status_code == 405
    assert client.get("/v1/models/other").status_code == 404
    assert client.post(CHAT, content=b"{}").status_code == 415
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403
