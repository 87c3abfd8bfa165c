"""What a model's config.json may not say, wherever the model comes from."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from epalm.errors import EpalmError, ModelError

Describe = Callable[[Exception], str]
"""Makes the message about what a library raised."""

KERNELS = ("attn_implementation", "experts_implementation")
"""Ends of keys that choose functions of transformers; "owner/name" would fetch native code."""


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
    try:
        yield
    except (EpalmError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(describe(error)) from error


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
