"""The names of encoders; the encoders themselves need torch."""

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
"""What a name may begin with -> the factory that reads the rest of it."""


def find_encoder(name: str) -> Any:  # noqa: ANN401
    """The factory of the encoder called `name`, imported, and torch with it.

    Raises:
        UsageError: an unknown name.
    """
    family = next((start for start in SHORTHANDS if name.startswith(start)), None)
    known = ENCODERS | ({name: SHORTHANDS[family]} if family else {})
    return load_plugin(name, known, what="encoder, timm:<name> or hf:<id>", option="--encoder")


def check_encoder_name(name: str) -> None:
    """Refuse a name that no encoder has; `package.module:Name` is left to `find_encoder`.

    Raises:
        UsageError: an unknown name.
    """
    if name not in ENCODERS and not name.startswith(tuple(SHORTHANDS)) and ":" not in name:
        find_encoder(name)
