"""What a model's config.json may not say, wherever the model comes from."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from epalm.errors import EpalmError, ModelError

Describe = Callable[[Exception], str]
"""Makes the message about what a library raised."""

KERNELS = ("attn_implementation", "experts_implementation")
"""Ends of keys that choose functions of transformers; "owner/name" would fetch native code."""


HUB_LOGGER = "huggingface_hub.utils._http"
"""Logger of huggingface_hub's attempts."""

_UNREACHABLE = re.compile(r"'(.*)' thrown while requesting (HEAD|GET) ", re.DOTALL)
_RETRY = re.compile(r"Retrying in \S+ \[Retry \d+/\d+\]\.$")
"""Its lines about an attempt without an answer."""

logger = logging.getLogger(__name__)


@contextmanager
def loading(describe: Describe) -> Iterator[None]:
    """Whatever transformers raises while it reads a model's files becomes one `ModelError`.

    For files of a wrong content it raises what happens to fail, down to plain `Exception` from
    tokenizers.

    Args:
        describe: see `Describe`.

    Raises:
        ModelError: with the message; errors of ours and a lack of memory pass as they are.
    """
    with few_retry_lines() as reasons:
        try:
            yield
        except (EpalmError, MemoryError):
            raise
        except Exception as error:
            unreached = f" (the hub was not reached: {'; '.join(reasons)})" if reasons else ""
            raise ModelError(describe(error) + unreached) from error


@contextmanager
def few_retry_lines() -> Iterator[list[str]]:
    """Log each reason why the hub is not reached once, in place of two lines for each attempt.

    What else huggingface_hub logs, e.g. an HTTP status, is unchanged.

    Yields:
        The reasons, as they come.
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


def mismatch(found: Mapping[str, Any]) -> str:
    """The weights whose shape is not that of the model, as a phrase; "" if there are none.

    Args:
        found: the loading info of transformers; without `ignore_mismatched_sizes` it would raise a
            table of many lines.
    """
    wrong = sorted(found["mismatched_keys"])
    if not wrong:
        return ""
    tensor, own, wanted = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return f"{tensor} has the shape {tuple(own)}, wanted {tuple(wanted)}{more}"


def refuse_kernels(config: object, source: str) -> None:
    """Refuse a configuration that wants code from the hub for some of its functions.

    Code for a whole model is refused by `trust_remote_code=False`, which does not cover kernels.

    Args:
        config: content of config.json.
        source: of the model, for the message.

    Raises:
        ModelError: names the key and the code.
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
