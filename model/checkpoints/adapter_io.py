"""Reading and writing a run's trained tensors, adapter.safetensors, and loading its model.

Training writes the file and evaluation reads it; it contains only trained tensors.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from epalm.errors import DataError, MissingFileError, ModelError
from epalm.model.build import assemble, build_model
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RunRecord
from epalm.model.checkpoints.tensor_file import check_tensors, read_tensors, write_tensors
from epalm.model.engine.language_model import weights_digest
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant
from epalm.model.text.text_encoder import TextEncoder
from epalm.model.text.tokenizer import load_tokenizer
from epalm.precision import computes_in, why_slow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedRun:
    """A run with its model ready to generate.

    Attributes:
        record: the run's record.
        model: model with the trained tensors, on its device.
        text: encoder of the language model's texts.
        precision: precision of the language model, the one of training if the device supports it.
    """

    record: RunRecord
    model: EPALM
    text: TextEncoder
    precision: str


def save_adapter(model: EPALM, file: Path) -> None:
    """Write the trained tensors atomically and with a checksum.

    Raises:
        OSError: writing failed.
    """
    write_tensors(file, dict(trainable_parameters(model)))


def load_adapter(model: EPALM, file: Path) -> None:
    """Read the trained tensors into the model.

    Raises:
        MissingFileError: the file does not exist.
        DataError: the file is damaged, belongs to another model, or has values that are not
            finite.
    """
    if not file.is_file():
        raise MissingFileError(f"{file} is missing: resume the training to the end of an epoch")
    weights = dict(trainable_parameters(model))
    try:
        tensors = read_tensors(file).tensors
        check_tensors(tensors, weights, source=str(file))
    except DataError as error:
        raise DataError(
            f"{error}; restore the file from a copy, or train the run again with --fresh"
        ) from error
    set_trained(model, tensors)


def set_trained(model: EPALM, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the trained parameters of a model; every parameter has one."""
    with torch.no_grad():
        for name, weight in trainable_parameters(model):
            weight.copy_(tensors[name])


def load_run(folder: Path, device: str = "cpu", *, lm: str = "") -> LoadedRun:
    """Load a run's model with its trained tensors, in eval mode on `device`.

    If the device does not support the run's precision, the same weights are used in float32.

    Args:
        folder: folder of the run.
        device: device of the model.
        lm: folder or hub id of the language model; "" for that of training.

    Raises:
        MissingFileError: the folder has no run, or no trained tensors yet.
        ModelError: the language model cannot be loaded, or its weights differ from those in
            training.
    """
    record = RunRecord.load(folder)
    if lm:
        record = replace(record, model=replace(record.model, lm=lm))
    elif Path(record.model.lm).is_absolute() and not Path(record.model.lm).is_dir():
        raise ModelError(
            f"{folder} was trained on the language model {record.model.lm}, which is not there: "
            "give its folder or hub id with --lm"
        )
    precision = _usable_precision(record, folder, device)
    same_precision = precision == record.model.precision
    model, text = build_model(record.model, device if same_precision else "cpu")
    digest = weights_digest(model.language_model)
    if digest != record.lm_digest:
        raise ModelError(
            f"{record.model.lm} has weights {digest}, the run was trained on {record.lm_digest}: "
            "give --lm the language model that it was trained with"
        )
    load_adapter(model, folder / ADAPTER_FILE)
    model = model if same_precision else model.float().to(device)
    use_onednn_layout(model.language_model)
    return LoadedRun(record, model.eval(), text, precision)


def can_share(run: LoadedRun, record: RunRecord) -> bool:
    """Whether a run can use the language model of a loaded one: equal, frozen, same precision."""
    own, other = run.record.model, record.model
    frozen = all(find_variant(one.variant).language_model == "frozen" for one in (own, other))
    same = (record.lm_digest, other.precision) == (run.record.lm_digest, own.precision)
    return frozen and same


def assemble_beside(run: LoadedRun, settings: ModelSettings) -> EPALM:
    """A model with new trained parts, in fp32, around the language model of a loaded run.

    Args:
        run: the loaded run; its language model keeps its precision and has no adapters attached.
        settings: settings of the new model.
    """
    device = next(run.model.connectors.parameters()).device
    return assemble(run.model.language_model, settings).to(device)


def load_run_beside(run: LoadedRun, record: RunRecord, folder: Path) -> LoadedRun:
    """Load a run's model around the language model of `run`, to which its adapters are attached.

    Args:
        run: a loaded run whose adapters, if it has any, are detached.
        record: the record in `folder`; both can share, see `can_share`.
        folder: folder of the run.

    Raises:
        MissingFileError: the folder has no trained tensors yet.
        DataError: they are damaged.
    """
    record = replace(record, model=replace(record.model, lm=run.record.model.lm))
    model = assemble_beside(run, record.model)
    load_adapter(model, folder / ADAPTER_FILE)
    template = record.model.text_template()
    text = run.text
    if template != run.record.model.text_template():
        config = run.model.language_model.config
        text = TextEncoder.create(load_tokenizer(record.model.lm), template, config)
    return LoadedRun(record, model.eval(), text, run.precision)


def _usable_precision(record: RunRecord, folder: Path, device: str) -> str:
    """The run's precision, or "fp32" if the device does not support it; slow ones are logged."""
    precision = record.model.precision
    if not computes_in(precision, device):
        logger.warning(
            "%s cannot compute in %s, in which %s was trained: its weights are used in fp32",
            device,
            precision,
            folder,
        )
        return "fp32"
    if reason := why_slow(precision, device):
        logger.warning("%s: %s was trained in it and is evaluated in it", reason, folder)
    return precision
