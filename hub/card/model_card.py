"""README.md of a run folder, the model card of the hub, and the config.json beside it.

The header and the part between the two marks are written anew after training, after each
evaluation and by `epalm push`. What a user writes below the second mark is kept, and so are keys of
the header that are not among the generated ones.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from epalm.atomic_write import write_file
from epalm.hub.card.base_models import encoder_id, language_model_id, store_field
from epalm.hub.card.card_metadata import card_metadata
from epalm.hub.card.card_scores import shown_evaluations
from epalm.hub.card.card_text import card_text
from epalm.hub.card.modality import modality
from epalm.model.checkpoints.run_record import RunRecord

CARD_FILE = "README.md"

CONFIG_FILE = "config.json"
"""File that the hub counts downloads by."""

BEGIN = "<!-- epalm: generated for {}, written anew by epalm-eval and epalm push -->"
END = "<!-- epalm: end of the generated part; text below this line is kept -->"

_BEGIN_WORDS = BEGIN.partition("{}")[0]

EARLIER_CARD = "eP-ALM: adapter of a language model for image, video and audio inputs."
"""Sentence of the cards of earlier versions, which had no marks and are replaced."""

GENERATED_KEYS = frozenset(
    (
        *("library_name", "base_model", "base_model_relation", "license", "license_name"),
        *("license_link", "pipeline_tag", "tags", "datasets", "metrics", "model-index"),
    )
)
"""Keys of the header that are written anew. `license` is kept where epalm knows none."""

LICENSE_KEYS = frozenset(("license", "license_name", "license_link"))


def write_card(run: Path, *, repository: str = "") -> None:
    """Write README.md and config.json of a run from its other files.

    Args:
        run: folder of the run.
        repository: id of the run's repository on the hub, e.g. "user/name", which the example in
            the card names; "" for the one in the existing card, if there is one.

    Raises:
        DataError: run.json, a scores.json or metrics.jsonl is missing or damaged.
        OSError: a file cannot be written.
    """
    record = RunRecord.load(run)
    file = run / CARD_FILE
    existing = _existing_text(file)
    header, body = _split(existing)
    name = repository or _repository(body)
    generated = card_metadata(record, shown_evaluations(run))
    text = card_text(run, record, source=name or f"runs/{record.name}")
    begin = BEGIN.format(name or "a local folder")
    written = yaml.safe_dump(
        _merged(header, generated), sort_keys=False, allow_unicode=True, width=1000
    )
    parts = [f"---\n{written}---\n", begin, text, END]
    write_file(file, "\n".join(parts) + "\n" + _own_text(body))
    write_file(run / CONFIG_FILE, json.dumps(_config(record), indent=1) + "\n")


def _existing_text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _split(text: str) -> tuple[dict[str, Any], str]:
    """Keys of the header, and the text below it; without keys if the header is no mapping."""
    if not text.startswith("---"):
        return {}, text
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
        return card.data.to_dict(), card.text
    except (ValueError, yaml.YAMLError):
        return {}, text


def _repository(body: str) -> str:
    """The repository that an existing card names; "" for none."""
    _, found, rest = body.partition(_BEGIN_WORDS)
    name = rest.partition(",")[0] if found else ""
    return name if "/" in name else ""


def _own_text(body: str) -> str:
    """The part of a card that its user wrote."""
    if END in body:
        return body.partition(END)[2].lstrip("\n")
    return "" if EARLIER_CARD in body else body.lstrip("\n")


def _merged(header: dict[str, Any], generated: dict[str, Any]) -> dict[str, Any]:
    """The generated keys, then a user's own ones."""
    unknown_license = LICENSE_KEYS if "license" not in generated else frozenset()
    kept = {
        key: value
        for key, value in header.items()
        if key not in GENERATED_KEYS or key in unknown_license
    }
    return generated | kept


def _config(record: RunRecord) -> dict[str, Any]:
    """What other programs may want to know of a run; epalm itself reads run.json."""
    lm, model, store = record.model.lm, record.model, record.store
    preprocessing = {
        name.removeprefix("fingerprint.preprocessing."): value
        for name, value in store.items()
        if name.startswith("fingerprint.preprocessing.")
    }
    return {
        "library_name": "epalm",
        "task": record.task,
        "modality": modality(record),
        "variant": model.variant,
        "template": model.template,
        "language_model": {
            "id": language_model_id(record) or None,
            "name": Path(lm).name,
            "crc32c": record.lm_digest,
            "precision": model.precision,
        },
        "encoder": {
            "id": encoder_id(record) or None,
            "name": store_field(record, "encoder"),
            "sha256": store.get("fingerprint.weights_sha256"),
            "layers": store_field(record, "layers"),
            "preprocessing": preprocessing,
        },
    }
