"""Checks of a language model's name and folder, without torch and without access to the hub."""

import re
from pathlib import Path

from epalm.errors import ModelError
from epalm.untrusted.file_kinds import check_model_folder, describe_file, folder_content

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]*\w|gpt2(-medium|-large|-xl)?|distilgpt2")
"""Pattern of a hub id, organization/name; only the hub's oldest models have no organization."""

_VOCABULARY_FILES = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken", "tekken.json")
"""Patterns of the files that contain a tokenizer's vocabulary."""


def check_source(name: str) -> None:
    """Reject an invalid name or folder.

    Args:
        name: hub id or local folder.

    Raises:
        ModelError: the name is neither a folder nor a hub id, or the folder has no config.json, or
            the content of its files does not match their names.
    """
    if Path(name).is_dir():
        check_model_folder(Path(name), label=name)
    elif Path(name).is_file():
        raise ModelError(
            f"{name} is {describe_file(Path(name))}; expected a folder made by save_pretrained, or "
            "a hub id such as facebook/opt-125m"
        )
    elif not HUB_ID.fullmatch(name):
        raise ModelError(
            f"there is no folder {Path(name).absolute()}, and {name!r} is not a hub id: give --lm "
            "a local folder, or a hub id such as facebook/opt-125m"
        )


def check_vocabulary_file(name: str) -> None:
    """Reject a local folder without the files of a tokenizer.

    Raises:
        ModelError: the message of `no_vocabulary`.
    """
    folder = Path(name)
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in _VOCABULARY_FILES):
        raise no_vocabulary(name)


def no_vocabulary(name: str) -> ModelError:
    """The error about a model without a tokenizer, which says how to add one.

    Args:
        name: hub id or local folder.
    """
    folder = Path(name)
    content = f" (its folder has {folder_content(folder)})" if folder.is_dir() else ""
    return ModelError(
        f"{name} has no tokenizer{content}: expected tokenizer.json, tokenizer.model, or "
        "vocab.json with merges.txt. Copy the files of the tokenizer that the model was trained "
        'with into its folder, e.g. with python -c "from transformers import AutoTokenizer; '
        f"AutoTokenizer.from_pretrained('HUB_ID').save_pretrained('{name}')\""
    )
