"""Samples in requests: base64, data: URLs, and http URLs of hosts that are allowed by name."""

import base64
import binascii
import re
from dataclasses import dataclass

from epalm.serve.requests.api_errors import field_error
from epalm.serve.requests.json_fields import Fields
from epalm.tasks.types import Modality

DATA_URL = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{0,100}){0,4};base64,", re.IGNORECASE)
"""Beginning of a data: URL; the type is not used, since the content decides."""

REMOTE = ("http://", "https://")

PARTS: dict[str, Modality] = {
    "image_url": "image",
    "video_url": "video",
    "input_audio": "audio",
    "audio_url": "audio",
}
"""Type of a content part -> modality. OpenAI's API has image_url and input_audio; the other two are
those of vLLM."""

PART_OF = {"image": "image_url", "video": "video_url", "audio": "input_audio"}
"""Modality -> the type that errors recommend."""


@dataclass(frozen=True)
class Upload:
    """A sample in a request.

    Attributes:
        content: bytes of its file; empty for a URL.
        url: http or https URL; empty if the request has the content.
        param: path of the field.
    """

    content: bytes
    url: str
    param: str


def read_part(part: Fields, kind: str, modality: Modality) -> Upload:
    """The sample of a content part.

    Args:
        part: the part.
        kind: type of the part, a key of `PARTS`.
        modality: modality of the run.

    Raises:
        ApiError: it is of another modality, or is no valid base64.
    """
    if PARTS[kind] != modality:
        raise field_error(
            f"found a part of type {kind!r}, but this run takes {modality} samples: send one of "
            f"type {PART_OF[modality]!r}",
            part.path("type"),
            "unsupported_media",
        )
    if kind == "input_audio":
        audio = part.object(kind)
        audio.text("format")
        return Upload(decoded(required(audio, "data"), audio.path("data")), "", audio.path("data"))
    if isinstance(part.get(kind), str):
        return read_url(required(part, kind), part.path(kind))
    url = part.object(kind)
    return read_url(required(url, "url"), url.path("url"))


def required(fields: Fields, name: str) -> str:
    """A text that must be there."""
    text = fields.text(name)
    if not text:
        raise field_error("is missing or empty", fields.path(name), "missing_value")
    return text


def read_url(url: str, param: str) -> Upload:
    """The content of a data: URL, or an http URL to fetch."""
    if header := DATA_URL.match(url):
        return Upload(decoded(url[header.end() :], param), "", param)
    if url.lower().startswith(REMOTE):
        return Upload(b"", url, param)
    raise field_error(
        f"found a URL that begins with {url[:20]!r}, expected data:TYPE;base64,CONTENT", param
    )


def decoded(text: str, param: str) -> bytes:
    """The bytes of base64; line breaks are allowed.

    Raises:
        ApiError: it is no base64, or empty.
    """
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise field_error(f"is no valid base64 ({error})", param, "invalid_base64") from error
    if not content:
        raise field_error("is empty", param, "missing_value")
    return content
