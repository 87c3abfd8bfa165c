"""A run on disk: run.json says how to build the model again, adapter.safetensors what it learnt.

Training writes both, evaluation reads them; only trained tensors are stored.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from transformers import PreTrainedTokenizerBase

from epalm.errors import DataError, MalformedFileError, MissingFileError, ModelError
from epalm.model.assembly import ModelSettings, build_model
from epalm.model.blocked import block_weights
from epalm.model.decode import Decoding
from epalm.model.epalm import EPALM, trainable
from epalm.model.language_model import weights_digest

RECORD_FILE = "run.json"
ADAPTER_FILE = "adapter.safetensors"


@dataclass(frozen=True)
class RunRecord:
    """What a run was.

    Attributes:
        name: of the run folder.
        task: name of the task it was trained on.
        recipe: name or path of the recipe.
        model: how to build the model.
        decoding: how it generates.
        features: path or URL of the feature store.
        store: the store's comparable fields; evaluation refuses another store.
        data_root: folder of the task's files.
        seed: of everything random.
        blind: trained on other media's features (the blind control).
        lm_digest: CRC-32C of the frozen language model's weights.
        trained: number of trained parameters.
        frozen: number of the language model's parameters.
        order: kind of the epochs' order, see `epalm.cache.order.Order`.
        pool_blocks: likewise; what a run began with it keeps, whatever memory is free later.
        examples: SHA-256 of what it learns from and is validated on; empty for an imported one.
    """

    name: str
    task: str
    recipe: str
    model: ModelSettings
    decoding: Decoding
    features: str
    store: dict[str, str]
    data_root: str
    seed: int
    blind: bool
    lm_digest: str
    trained: int
    frozen: int
    order: Literal["uniform", "blocks"] = "uniform"
    pool_blocks: int = 0
    examples: str = ""

    def differing(self, store: Mapping[str, str], names: Collection[str]) -> list[str]:
        """What distinguishes a store's fields from those of the store in training.

        Args:
            store: `StoreSpec.comparable` of another store.
            names: the fields to compare.

        Returns:
            One phrase per field that differs, with both values, by name.
        """
        return [
            f"{name} is {store.get(name, 'absent')}, in training {self.store.get(name, 'absent')}"
            for name in sorted(names)
            if store.get(name) != self.store.get(name)
        ]

    def save(self, folder: Path) -> None:
        """Write run.json."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
        (folder / RECORD_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read run.json.

        Raises:
            MissingFileError: the folder holds no run.
            MalformedFileError: run.json is damaged or of another version.
        """
        file = folder / RECORD_FILE
        if not file.is_file():
            raise MissingFileError(
                f"{folder} holds no {RECORD_FILE}: give --run a folder that epalm-train made"
            )
        try:
            fields: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            settings = fields["model"]
            settings["blocks"] = tuple(settings.get("blocks", ()))
            fields["model"] = ModelSettings(**settings)
            fields["decoding"] = Decoding(**fields["decoding"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedFileError(f"{file} is no run record of this version: {error}") from error


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
