"""The trained tensors of a run, adapter.safetensors, and the model around them.

Training writes them, evaluation reads them; only trained tensors are stored.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from epalm.errors import DataError, MissingFileError, ModelError
from epalm.model.build import build_model
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RunRecord
from epalm.model.checkpoints.tensor_file import check_tensors, read_tensors, write_tensors
from epalm.model.engine.language_model import weights_digest
from epalm.model.engine.onednn_linear import block_weights
from epalm.model.epalm import EPALM, trainable
from epalm.precision import computes_in, why_slow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedRun:
    """A run ready to generate.

    Attributes:
        record: what it is.
        model: with the trained tensors, on its device.
        tokenizer: of the language model.
        precision: that the language model computes in, as in training if the device can.
    """

    record: RunRecord
    model: EPALM
    tokenizer: PreTrainedTokenizerBase
    precision: str


def save_adapter(model: EPALM, file: Path) -> None:
    """Write the trained tensors with a checksum, whole or not at all.

    Raises:
        OSError: the file system refuses.
    """
    write_tensors(file, dict(trainable(model)))


def load_adapter(model: EPALM, file: Path) -> None:
    """Read the trained tensors back.

    Raises:
        MissingFileError: no such file.
        DataError: it is damaged, of another model, or has values that are not finite.
    """
    if not file.is_file():
        raise MissingFileError(f"{file} is missing: train the run on to the end of an epoch")
    weights = dict(trainable(model))
    try:
        tensors = read_tensors(file).tensors
        check_tensors(tensors, weights, where=str(file))
    except DataError as error:
        raise DataError(
            f"{error}; put back a copy of it, or train the run again with --fresh"
        ) from error
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[name])


def load_run(folder: Path, device: str = "cpu") -> LoadedRun:
    """The run's model with what it learnt, in eval mode on `device`.

    If the device cannot compute in the run's precision, the same weights are used in float32.

    Raises:
        MissingFileError: the folder holds no run, or no trained tensors yet.
        ModelError: the language model cannot be loaded, or has other weights than in training.
    """
    record = RunRecord.load(folder)
    precision = _usable_precision(record, folder, device)
    as_trained = precision == record.model.precision
    model, tokenizer = build_model(record.model, device if as_trained else "cpu")
    digest = weights_digest(model.language_model)
    if digest != record.lm_digest:
        raise ModelError(
            f"{record.model.lm} has weights {digest}, the run was trained on {record.lm_digest}: "
            "use the language model it was trained with"
        )
    load_adapter(model, folder / ADAPTER_FILE)
    model = model if as_trained else model.float().to(device)
    block_weights(model.language_model)
    return LoadedRun(record, model.eval(), tokenizer, precision)


def _usable_precision(record: RunRecord, folder: Path, device: str) -> str:
    """The run's precision, or "fp32" if the device cannot compute in it; logged if unusual."""
    wanted = record.model.precision
    if not computes_in(wanted, device):
        logger.warning(
            "%s cannot compute in %s, in which %s was trained: its weights are used in fp32",
            device,
            wanted,
            folder,
        )
        return "fp32"
    if reason := why_slow(wanted, device):
        logger.warning("%s: %s was trained in it and is evaluated in it", reason, folder)
    return wanted
