"""Names of encoders; this module does not import torch, which the encoders need."""

from typing import Any

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
    if name not in ENCODERS and not name.startswith(tuple(SHORTHANDS)) and ":" not in name:
        find_encoder(name)
