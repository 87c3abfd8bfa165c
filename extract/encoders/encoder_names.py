"""Names of encoders; this module does not import torch, which the encoders need."""

import re
from pathlib import Path
from typing import Any

from epalm.errors import UsageError
from epalm.plugins import load_plugin

ENCODERS = {
    "vit-ti16": "epalm.extract.encoders.timm_vit:make_vit",
    "vit-s16": "epalm.extract.encoders.timm_vit:make_vit",
    "vit-b16": "epalm.extract.encoders.timm_vit:make_vit",
    "vit-l16": "epalm.extract.encoders.timm_vit:make_vit",
    "clip-vit-l14": "epalm.extract.encoders.hf_encoder:make_hugging_face",
    "timesformer-b": "epalm.extract.encoders.hf_encoder:make_hugging_face",
    "ast": "epalm.extract.encoders.hf_encoder:make_hugging_face",
}
"""Name -> "module:factory"; a factory is called with the name and
`epalm.extract.encoders.encoder_registry.EncoderSettings`."""

SHORTHANDS = {"timm:": ENCODERS["vit-b16"], "hf:": ENCODERS["clip-vit-l14"]}
"""Prefix of a name -> factory of the encoders that are named by it."""


EXAMPLES = {"timm:": "timm:vit_base_patch14_dinov2", "hf:": "hf:facebook/dinov2-base"}
"""Prefix of a name -> a complete name."""

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""Pattern of an id on the hub: organization/name, or the name of one of its oldest models."""


def find_encoder(name: str) -> Any:  # noqa: ANN401
    """Import the factory of an encoder, and torch with it.

    Raises:
        UsageError: an unknown name.
    """
    prefix = next((prefix for prefix in SHORTHANDS if name.startswith(prefix)), None)
    known = ENCODERS | ({name: SHORTHANDS[prefix]} if prefix else {})
    return load_plugin(name, known, what="encoder, timm:<name> or hf:<id>", option="--encoder")


def check_encoder_name(name: str) -> None:
    """Check the name of an encoder; `package.module:Name` is checked by `find_encoder`.

    Raises:
        UsageError: an unknown name.
    """
    prefix = next((prefix for prefix in SHORTHANDS if name.startswith(prefix)), "")
    if prefix:
        _check_shorthand(prefix, name.removeprefix(prefix))
    elif name not in ENCODERS and ":" not in name:
        find_encoder(name)


def _check_shorthand(prefix: str, rest: str) -> None:
    if not rest:
        raise UsageError(f"{prefix} needs a name after it, e.g. {EXAMPLES[prefix]}")
    if prefix == "hf:" and not Path(rest).is_dir() and not HUB_ID.fullmatch(rest):
        raise UsageError(
            f"there is no folder {Path(rest).absolute()}, and {rest!r} is not an id on the hub: "
            f"give a folder written by save_pretrained, or an id, e.g. {EXAMPLES[prefix]}"
        )
