"""What a model's config.json may not say, wherever the model comes from."""

from epalm.errors import ModelError

KERNELS = ("attn_implementation", "experts_implementation")
"""Ends of keys that choose functions of transformers; "owner/name" would fetch native code."""


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
