"""Names of models, stores and recipes for reports, which show no local paths."""

import re
from collections.abc import Mapping
from pathlib import Path

from epalm.cache.preprocessing_names import written_preprocessing
from epalm.cache.readers.joined.joined_spec import SEPARATOR
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.model.checkpoints.run_record import RunRecord

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""A model id of the Hugging Face Hub, or a plain name."""

HUGGING_FACE = "hf:"
"""Prefix of encoders that transformers loads."""

PREPROCESSING = "fingerprint.preprocessing."
"""Prefix of the settings of preprocessing among a store's comparable fields."""


def file_name(address: str) -> str:
    """The last component of a local path; a URL as it is."""
    return address if "://" in address else Path(address).name or address


def model_name(address: str) -> str:
    """The last component of a local path; a hub id, a URL or a registered name as it is.

    An id such as `facebook/opt-2.7b` counts as a path if it exists as one.
    """
    if SEPARATOR in address:
        return SEPARATOR.join(map(model_name, address.split(SEPARATOR)))
    prefix = HUGGING_FACE if address.startswith(HUGGING_FACE) else ""
    rest = address.removeprefix(prefix)
    if HUB_ID.fullmatch(rest) and not Path(rest).exists():
        return address
    return prefix + file_name(rest)


def preprocessing_words(store: Mapping[str, str]) -> str:
    """The preprocessing of a store's samples in words; empty for stores that do not record it.

    Args:
        store: comparable fields of the store.
    """
    fields = {
        name.removeprefix(PREPROCESSING).replace("_", " "): value
        for name, value in store.items()
        if name.startswith(PREPROCESSING)
    }
    name = written_preprocessing(fields.pop("name", ""))
    return ", ".join([name] * bool(name) + [f"{key} {value}" for key, value in fields.items()])


def shown_settings(evaluation: Evaluation, record: RunRecord) -> dict[str, str]:
    """Settings of an evaluation as this version writes them; earlier ones wrote paths.

    Args:
        evaluation: the evaluation, maybe of an earlier version.
        record: record of its run.

    Returns:
        The settings in words, with the preprocessing after the encoder.
    """
    names = {path: file_name(path) for path in (record.features, evaluation.features) if path}
    names |= {name: model_name(name) for name in (record.model.lm, record.store["encoder"])}
    settings = {}
    for name, value in evaluation.settings.items():
        text = value
        for path in sorted(names, key=len, reverse=True):
            text = text.replace(path, names[path])
        settings[name] = model_name(text) if name == "recipe" else text
        if name == "encoder" and (words := preprocessing_words(record.store)):
            settings["preprocessing"] = words
    return settings
