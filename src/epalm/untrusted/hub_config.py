"""Safe loading of models from the hub and from local folders."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from epalm.errors import EpalmError, ModelError

Describe = Callable[[Exception], str]
"""Formats the message about an exception of a library."""

KERNELS = ("attn_implementation", "experts_implementation")
"""Suffixes of keys that select functions; a value "owner/name" would fetch native code."""


HUB_LOGGER = "huggingface_hub.utils._http"
"""Logger of huggingface_hub's requests."""

_UNREACHABLE = re.compile(r"'(.*)' thrown while requesting (HEAD|GET) ", re.DOTALL)
_RETRY = re.compile(r"Retrying in \S+ \[Retry \d+/\d+\]\.$")
"""Messages of that logger about a request without an answer."""

logger = logging.getLogger(__name__)


@contextmanager
def loading(describe: Describe) -> Iterator[None]:
    """Turn any exception of transformers while it reads a model's files into a `ModelError`.

    For damaged files it raises all kinds of exceptions, even plain `Exception` from tokenizers.

    Args:
        describe: formats the message.

    Raises:
        ModelError: loading failed. Errors of epalm and a lack of memory are not converted.
    """
    with few_retry_lines() as reasons:
        try:
            yield
        except (EpalmError, MemoryError):
            raise
        except Exception as error:
            unreached = f" (the hub was not reached: {'; '.join(reasons)})" if reasons else ""
            raise ModelError(describe(error) + unreached) from error


def load_message(part: str, name: str, error: Exception) -> str:
    """The message about a part of a language model that could not be loaded.

    Args:
        part: the part, e.g. "tokenizer".
        name: hub id or local folder.
        error: reason.
    """
    folder, hub = Path(name).absolute(), "the hub (or the local cache if offline)"
    source = "the folder" if folder.is_dir() else f"{hub}, and there is no folder {folder}"
    advice = (
        "Get its files again, or correct them"
        if folder.is_dir()
        else "Give --lm a hub id such as facebook/opt-125m, or a local folder"
    )
    return f"no {part} could be loaded as {name!r} from {source}: {_reason(error)}. {advice}"


def _reason(error: Exception) -> str:
    """The first line of an error's message, and the next one if it only announces that."""
    first, *others = str(error).splitlines() or [type(error).__name__]
    if first.endswith(":") and others:
        first = f"{first} {others[0].strip()}"
    return first.rstrip(".")


@contextmanager
def few_retry_lines() -> Iterator[list[str]]:
    """Log each reason why the hub cannot be reached once, instead of twice per request.

    Other messages of huggingface_hub, e.g. an HTTP status, are unchanged.

    Yields:
        The reasons so far.
    """
    hub = logging.getLogger(HUB_LOGGER)
    reasons: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        found = _UNREACHABLE.match(text)
        if found and found[1] not in reasons:
            reasons.append(found[1])
            logger.info("the Hugging Face hub cannot be reached (%s): trying again", found[1])
        return not (found or (reasons and _RETRY.match(text)))

    hub.addFilter(keep)
    try:
        yield reasons
    finally:
        hub.removeFilter(keep)


def mismatch(info: Mapping[str, Any]) -> str:
    """Describe weights whose shape is not that of the model as a phrase; "" if there are none.

    Args:
        info: loading info of transformers; without `ignore_mismatched_sizes` it would raise a
            table of many lines.
    """
    wrong = sorted(info["mismatched_keys"])
    if not wrong:
        return ""
    tensor, own, wanted = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return f"{tensor} has the shape {tuple(own)}, expected {tuple(wanted)}{more}"


def refuse_kernels(config: object, source: str) -> None:
    """Refuse a configuration that would fetch code from the hub for some functions.

    `trust_remote_code=False` refuses code for a whole model, but does not cover kernels.

    Args:
        config: content of config.json.
        source: name of the model, for the message.

    Raises:
        ModelError: a key requests code; the message names both.
    """
    if isinstance(config, list):
        for inner in config:
            refuse_kernels(inner, source)
    for key, value in config.items() if isinstance(config, dict) else ():
        named = str(key).endswith(KERNELS)
        for one in (value, *value.values()) if isinstance(value, dict) else (value,):
            if named and isinstance(one, str) and "/" in one:
                raise ModelError(
                    f"config.json of {source} wants {key} {one!r}, code that would be fetched and "
                    "run: remove that line from a copy of it"
                )
        refuse_kernels(value, source)
