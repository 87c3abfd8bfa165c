"""Answers and features of a running server."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from epalm.ask.run_model import Model
from epalm.cache.readers.open_reader import open_store
from epalm.serve.engine.service import Service
from tests.ask.small_runs import SmallRun
from tests.serve.running import CHAT, chat_body, data_url, image_message


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_answers_are_those_of_evaluation_and_of_python_alone_or_in_batches(
    client: httpx.Client, run: SmallRun, reference: Model
) -> None:
    def ask(prediction: dict[str, Any]) -> str:
        body = chat_body(run.file(prediction), prediction["prompt"])
        return text_of(client.post(CHAT, json=body))

    wanted = [prediction["prediction"] for prediction in run.predictions]
    assert len(wanted) > 5
    assert [ask(prediction) for prediction in run.predictions] == wanted
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, run.predictions)) == wanted
    files = [str(run.file(prediction)) for prediction in run.predictions]
    prompts = [prediction["prompt"] for prediction in run.predictions]
    assert [str(answer) for answer in reference.answer(files, prompts)] == wanted


def test_a_stream_has_the_answer_the_alternatives_the_blind_control_and_the_neighbors(
    client: httpx.Client, run: SmallRun, reference: Model
) -> None:
    prediction = run.predictions[0]
    file, prompt = run.file(prediction), prediction["prompt"]
    extension = {"alternatives": 3, "blind": True, "neighbors": 2}
    fields = {"stream": True, "stream_options": {"include_usage": True}, "epalm": extension}
    events = events_of(client.post(CHAT, json=chat_body(file, prompt, **fields)))
    choices = [event["choices"][0] for event in events if event["choices"]]
    answer = reference.answer(str(file), prompt, top=3)
    assert "".join(choice["delta"].get("content", "") for choice in choices) == answer
    assert choices[-1]["finish_reason"] in {"stop", "length"}
    assert events[-1]["usage"]["completion_tokens"] == answer.tokens
    result = next(event["epalm"] for event in events if "epalm" in event)
    assert result["probability"] == pytest.approx(answer.probability)
    assert [one["text"] for one in result["alternatives"]] == list(map(str, answer.alternatives))
    assert result["blind"]["text"] == answer  # the control is a copy of the run
    nearest = result["neighbors"][0]
    assert nearest["key"] == prediction["key"]
    assert nearest["similarity"] == pytest.approx(1, abs=1e-3)
    assert nearest["thumbnail"].startswith("data:image/png;base64,")


def test_the_openai_client_gets_answers_streams_and_errors(
    client: httpx.Client, run: SmallRun
) -> None:
    prediction = run.predictions[0]
    messages: Any = [image_message(run.file(prediction), prediction["prompt"])]
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0) as api:
        (model,) = api.models.list().data
        answer = api.chat.completions.create(
            model=model.id, messages=messages, logprobs=True, top_logprobs=2
        )
        assert answer.choices[0].message.content == prediction["prediction"]
        tokens = answer.choices[0].logprobs
        assert tokens is not None and tokens.content is not None
        assert "".join(one.token for one in tokens.content).strip() == prediction["prediction"]
        assert all(len(one.top_logprobs) == 2 for one in tokens.content)
        stream = api.chat.completions.create(model=model.id, messages=messages, stream=True)
        parts = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(parts) == prediction["prediction"]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            api.chat.completions.create(model="gpt-4o", messages=messages)
        with pytest.raises(openai.BadRequestError, match="temperature") as caught:
            api.chat.completions.create(model=model.id, messages=messages, temperature=3)
        assert caught.value.param == "temperature"


def test_sampled_answers_are_those_of_their_seed(
    client: httpx.Client, run: SmallRun, reference: Model
) -> None:
    prediction = run.predictions[0]
    file, prompt = run.file(prediction), prediction["prompt"]
    for seed in range(4):
        sampled = client.post(CHAT, json=chat_body(file, prompt, temperature=2, seed=seed))
        settings: dict[str, Any] = {"do_sample": True, "temperature": 2.0, "seed": seed}
        assert text_of(sampled) == reference.answer(str(file), prompt, **settings)


def test_features_are_those_of_the_store(
    client: httpx.Client, run: SmallRun, reference: Model
) -> None:
    key = run.predictions[0]["key"]
    body = {"input": data_url(run.file(run.predictions[0]).read_bytes())}
    (entry,) = client.post("/v1/features", json=body).json()["data"]
    values = np.frombuffer(base64.b64decode(entry["features"]), entry["dtype"])
    features = values.reshape(entry["shape"])
    stored = np.asarray(open_store(reference.record.features).read([key]))[0]
    np.testing.assert_allclose(features, stored, rtol=1e-2, atol=1e-2)
    listed = client.post("/v1/features", json=body | {"encoding_format": "float"}).json()
    np.testing.assert_array_equal(np.array(listed["data"][0]["features"], "float16"), features)


def test_metrics_count_requests_and_batches(client: httpx.Client, service: Service) -> None:
    client.post(CHAT, json={})
    text = client.get("/metrics").text
    assert 'epalm_requests_total{route="chat",status="400"}' in text
    assert "epalm_batch_size_bucket" in text
    assert "epalm_requests_in_flight 0.0" in text
    assert service.active == 0
