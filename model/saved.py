"""The trained tensors of a run, adapter.safetensors, and the model around them.

Training writes them, evaluation reads them; only trained tensors are stored.
"""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from transformers import PreTrainedTokenizerBase

from epalm.errors import DataError, MissingFileError, ModelError
from epalm.model.assembly import build_model
from epalm.model.blocked import block_weights
from epalm.model.epalm import EPALM, trainable
from epalm.model.language_model import weights_digest
from epalm.model.run_record import ADAPTER_FILE, RunRecord


@dataclass(frozen=True)
class LoadedRun:
    """A run ready to generate."""

    record: RunRecord
    model: EPALM
    tokenizer: PreTrainedTokenizerBase


def save_adapter(model: EPALM, file: Path) -> None:
    """Write the trained tensors, whole or not at all."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in trainable(model)}
    temporary = file.with_name(f".{file.name}.new")
    # `save_file` would let nobody but the owner read it, whatever the umask says.
    temporary.write_bytes(save(tensors))
    temporary.replace(file)


def load_adapter(model: EPALM, file: Path) -> None:
    """Read the trained tensors back.

    Raises:
        MissingFileError: no such file.
        DataError: it is damaged, or of another model.
    """
    if not file.is_file():
        raise MissingFileError(f"{file} is missing: train the run on to the end of an epoch")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    wanted = {name: tuple(weight.shape) for name, weight in trainable(model)}
    found = {name: tuple(weight.shape) for name, weight in tensors.items()}
    if wanted != found:
        differing = sorted(wanted.items() ^ found.items())
        raise DataError(f"{file} holds other tensors than the run's model, e.g. {differing[0]}")
    model.load_state_dict(tensors, strict=False)


def load_run(folder: Path, device: str = "cpu") -> LoadedRun:
    """The run's model with what it learnt, in eval mode on `device`.

    Raises:
        MissingFileError: the folder holds no run, or no trained tensors yet.
        ModelError: the language model cannot be loaded, or has other weights than in training.
    """
    record = RunRecord.load(folder)
    model, tokenizer = build_model(record.model, device)
    block_weights(model.language_model)
    digest = weights_digest(model.language_model)
    if digest != record.lm_digest:
        raise ModelError(
            f"{record.model.lm} has weights {digest}, the run was trained on {record.lm_digest}: "
            "use the language model it was trained with"
        )
    load_adapter(model, folder / ADAPTER_FILE)
    return LoadedRun(record, model.eval(), tokenizer)
