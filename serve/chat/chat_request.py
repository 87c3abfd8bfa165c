"""The request of /v1/chat/completions, with the fields of OpenAI's API that have a meaning here."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epalm.ask.run_model import Model
from epalm.errors import UsageError
from epalm.serve.engine.jobs import Question
from epalm.serve.requests.api_errors import ApiError, field_error
from epalm.serve.requests.json_fields import Fields
from epalm.serve.requests.media_parts import PART_OF, PARTS, Upload, read_part, read_url, required
from epalm.untrusted.quoted_values import quote

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "stop": ([], ""),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
}
"""Fields that would change the answer but are not supported -> values that change nothing."""

MAX_TOP = 20
"""Largest top_logprobs, as in OpenAI's API, and number of alternatives and neighbors."""

MAX_TEXT = 100_000
"""Characters of a question; no language model here has as many positions."""

EXTENSION = "epalm"
"""Name of the object with the fields that OpenAI's API does not have."""


@dataclass(frozen=True)
class ChatRequest:
    """A parsed request.

    Attributes:
        upload: the sample.
        question: the question with its decoding settings.
        stream: whether the answer is sent token by token.
        include_usage: whether the stream ends with the numbers of tokens.
        logprobs: whether the answer has the log-probability of each token.
        neighbors: number of the store's nearest samples to add.
    """

    upload: Upload
    question: Question
    stream: bool
    include_usage: bool
    logprobs: bool
    neighbors: int


def parse_chat(body: object, model: Model, *, max_new_tokens: int) -> ChatRequest:
    """Parse the JSON of a request.

    Args:
        body: the parsed JSON.
        model: the run.
        max_new_tokens: largest number of tokens of an answer.

    Raises:
        ApiError: names the field that is wrong.
    """
    fields = Fields(body, "")
    check_model(fields, model)
    _refuse_unsupported(fields)
    extension = fields.object(EXTENSION)
    upload, prompt = _message(fields, model)
    stream = fields.flag("stream")
    logprobs = fields.flag("logprobs")
    top_tokens = fields.integer("top_logprobs", 0, MAX_TOP) or 0
    if top_tokens and not logprobs:
        raise field_error("needs logprobs: true", "top_logprobs")
    changes = _decoding_changes(fields, extension, max_new_tokens)
    try:
        decoding = model.decoding(**changes)
    except UsageError as error:
        raise ApiError(400, str(error), code="invalid_value") from error
    if logprobs and decoding.num_beams > 1:
        raise field_error(
            f"the run decodes with {decoding.num_beams} beams, whose tokens have no single "
            'probability: add "epalm": {"num_beams": 1}',
            "logprobs",
            "unsupported_parameter",
        )
    question = Question(
        prompt,
        decoding,
        alternatives=extension.integer("alternatives", 0, MAX_TOP) or 0,
        blind=extension.flag("blind"),
        top_tokens=top_tokens,
    )
    return ChatRequest(
        upload,
        question,
        stream,
        stream and fields.object("stream_options").flag("include_usage"),
        logprobs,
        extension.integer("neighbors", 0, MAX_TOP) or 0,
    )


def check_model(fields: Fields, model: Model) -> None:
    """Refuse the name of another model; none at all is the run's.

    Raises:
        ApiError: 404, as OpenAI's API has it.
    """
    name = fields.text("model")
    if name is not None and name != model.record.name:
        raise ApiError(
            404,
            f"the model {quote(name)} does not exist: this server has {model.record.name!r}",
            code="model_not_found",
            param="model",
        )


def _refuse_unsupported(fields: Fields) -> None:
    for name, neutral in NEUTRAL.items():
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or value not in neutral):
            raise field_error(
                f"found {quote(value)}, which is not supported: leave it out",
                name,
                "unsupported_parameter",
            )


def _message(fields: Fields, model: Model) -> tuple[Upload, str]:
    """The sample and the text of the only message."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or len(messages) != 1:
        number = f"{len(messages)} messages" if isinstance(messages, list) else quote(messages)
        raise field_error(
            f"found {number}, expected a list of one message of role 'user': runs are trained on "
            "single questions, without a system message or earlier turns",
            "messages",
        )
    message = Fields(messages[0], "messages.0")
    if message.get("role") != "user":
        raise field_error(
            f"found {quote(message.get('role'))}, expected 'user'", message.path("role")
        )
    parts = message.get("content")
    parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
    if not isinstance(parts, list):
        raise field_error(f"found {quote(parts)}, expected a list", message.path("content"))
    return _read_parts(parts, message.path("content"), model)


def _read_parts(parts: list[Any], path: str, model: Model) -> tuple[Upload, str]:
    uploads, texts = list[Upload](), list[str]()
    for number, value in enumerate(parts):
        part = Fields(value, f"{path}.{number}")
        kind = part.text("type")
        if kind == "text":
            texts.append(part.text("text") or "")
        elif kind in PARTS:
            uploads.append(read_part(part, kind, model.modality))
        else:
            raise field_error(
                f"found {quote(kind)}, expected one of text, {', '.join(PARTS)}", path
            )
    if len(uploads) != 1:
        raise field_error(
            f"found {len(uploads)} samples, expected one part of type {PART_OF[model.modality]!r}",
            path,
        )
    return uploads[0], _prompt([text for text in texts if text.strip()], path, model)


def _prompt(texts: list[str], path: str, model: Model) -> str:
    """The question; empty for a run that writes captions."""
    if not model.answers_questions:
        if texts:
            raise field_error(
                f"run {model.record.name} writes captions and takes no text: send the sample alone",
                path,
            )
        return ""
    if len(texts) != 1:
        raise field_error(f"found {len(texts)} questions, expected one part of type 'text'", path)
    if len(texts[0]) > MAX_TEXT:
        raise field_error(
            f"the question has {len(texts[0])} characters, at most {MAX_TEXT} are possible", path
        )
    return texts[0]


def _decoding_changes(fields: Fields, extension: Fields, max_new_tokens: int) -> dict[str, object]:
    """Decoding settings in place of the run's."""
    changes: dict[str, object] = {}
    longest = [
        fields.integer(name, 1, 10_000_000) for name in ("max_completion_tokens", "max_tokens")
    ]
    if given := [value for value in longest if value is not None]:
        changes["max_new_tokens"] = min(given[0], max_new_tokens)
    beams = extension.integer("num_beams", 1, MAX_TOP)
    temperature = fields.number("temperature", 0, 2)
    top_p = fields.number("top_p", 0, 1)
    seed = fields.integer("seed", -(2**63), 2**63 - 1)
    samples = temperature is not None and temperature > 0
    if temperature is None and top_p is not None and top_p < 1:
        samples, temperature = True, 1.0
    if samples:
        if top_p == 0:
            raise field_error(
                "found 0, expected more; for the most probable answer set temperature to 0", "top_p"
            )
        drawn = secrets.randbits(31) if seed is None else seed % 2**31
        changes |= {"do_sample": True, "temperature": temperature, "seed": drawn}
        changes |= {} if top_p is None else {"top_p": top_p}
    elif temperature == 0:
        changes["do_sample"] = False
    return changes | ({} if beams is None else {"num_beams": beams})


def read_features_request(body: object, model: Model) -> tuple[list[Upload], bool]:
    """The samples of a request of /v1/features, and whether the features are sent as numbers.

    Raises:
        ApiError: names the field that is wrong.
    """
    fields = Fields(body, "")
    check_model(fields, model)
    value = fields.get("input")
    urls = value if isinstance(value, list) else [value]
    if not 1 <= len(urls) <= MAX_TOP:
        raise field_error(f"found {len(urls)} samples, expected 1 to {MAX_TOP}", "input")
    wrapped = Fields({f"{number}": url for number, url in enumerate(urls)}, "input")
    uploads = [read_url(required(wrapped, name), wrapped.path(name)) for name in wrapped.values]
    encoding = fields.text("encoding_format") or "base64"
    if encoding not in {"base64", "float"}:
        raise field_error(f"found {encoding!r}, expected 'base64' or 'float'", "encoding_format")
    return uploads, encoding == "float"
