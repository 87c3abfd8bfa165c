"""Read the tensors of a checkpoint file."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from epalm.errors import MissingFileError, ModelError
from epalm.untrusted.file_kinds import check_weights_file, describe_file

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""File names of weights on the Hugging Face hub, in order of preference."""


def read_state(weights: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file by name.

    Args:
        weights: the file, or a folder of a saved model.

    Raises:
        MissingFileError: no such file.
        ModelError: the file does not contain weights.
    """
    from timm.models import load_state_dict

    if weights.is_dir():
        weights = _file_in(weights)
    if not weights.is_file():
        raise MissingFileError(f"--weights {weights}: no such file")
    label = f"--weights {weights}"
    check_weights_file(weights, label=label)
    try:
        state: dict[str, Tensor] = load_state_dict(str(weights), weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything, and torch's message advises
        # to execute the file
        raise ModelError(f"{label} cannot be read: it is {describe_file(weights)}") from error
    if not isinstance(state, Mapping):
        raise ModelError(f"{label} contains a {type(state).__name__}, expected tensors by name")
    return state


def _file_in(folder: Path) -> Path:
    """Find the weights in the folder of a saved model by the file names of the hub."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise MissingFileError(
        f"--weights {folder} is a folder without {' or '.join(WEIGHT_FILES)}: give the file"
    )
