"""The models that a run was built from, by their ids on the hub, and their licenses."""

import re
from dataclasses import dataclass
from pathlib import Path

from epalm.model.checkpoints.run_record import RunRecord
from epalm.portable_path import HUGGING_FACE

TIMM = "timm:"
"""Beginning of the name of an encoder from timm, whose weights the hub has under `timm/`."""

PUBLISHED_ENCODERS = {
    "vit-ti16": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit-s16": "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit-b16": "timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit-l16": "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
    "clip-vit-l14": "openai/clip-vit-large-patch14",
    "timesformer-b": "facebook/timesformer-base-finetuned-k600",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
}
"""Name of an encoder -> id of its published weights on the hub."""

MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
"""An id on the hub; those of its first models have no owner."""


@dataclass(frozen=True)
class License:
    """The license of a language model, in the terms of the hub's model cards.

    Attributes:
        id: identifier of the license, "other" for one that the hub has no identifier of.
        name: name of another license, in the form of an identifier.
        link: address of its text.
        note: what a user has to know, one sentence.
    """

    id: str
    name: str = ""
    link: str = ""
    note: str = ""


OPT_LICENSE = License(
    "other",
    "opt-175b-license-agreement",
    "https://github.com/facebookresearch/metaseq/blob/main/projects/OPT/MODEL_LICENSE.md",
    "It allows non-commercial research only, so this adapter is for non-commercial use, too.",
)

LICENSES = {
    "facebook/opt-": OPT_LICENSE,
    "EleutherAI/pythia-": License("apache-2.0"),
    "HuggingFaceTB/SmolLM2-": License("apache-2.0"),
    "openai-community/gpt2": License("mit"),
    "gpt2": License("mit"),
}
"""Beginning of a language model's id -> its license. For other models the card names none."""


def store_field(record: RunRecord, name: str) -> str:
    """A field of the store that the run was trained on; "unknown" if run.json does not have it."""
    return record.store.get(name, "unknown")


def hub_id(location: str) -> str:
    """The location if it is an id on the hub, else "" (a folder, or a URL)."""
    local = Path(location).is_absolute() or "://" in location
    return location if not local and MODEL_ID.fullmatch(location) else ""


def language_model_id(record: RunRecord) -> str:
    """Id of the language model on the hub; "" for a local folder."""
    return hub_id(record.model.lm)


def encoder_id(record: RunRecord) -> str:
    """Id of the encoder's weights on the hub; "" for local weights and encoders of one's own."""
    name = store_field(record, "encoder")
    if record.weights or (record.joined and not record.concatenated):
        return ""
    if name.startswith(TIMM):
        return f"timm/{name.removeprefix(TIMM)}"
    if name.startswith(HUGGING_FACE):
        identifier = hub_id(name.removeprefix(HUGGING_FACE))
        return identifier if "/" in identifier else ""  # a folder's name alone has no owner
    return PUBLISHED_ENCODERS.get(name, "")


def license_of(model_id: str) -> License | None:
    """The license of a language model on the hub; None if it is not in `LICENSES`."""
    known = (license for prefix, license in LICENSES.items() if model_id.startswith(prefix))
    return next(known, None)
