"""run.json of a run folder: settings to rebuild the model, and the data it was trained on.

The file has no absolute path, see `epalm.portable_path`; in a `RunRecord` paths are absolute. This
module imports no torch; `epalm.model.checkpoints.adapter_io` reads the trained tensors.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from epalm.atomic_write import write_file
from epalm.errors import MalformedFileError, MissingFileError
from epalm.model.method.model_settings import Decoding, ModelSettings
from epalm.number_ranges import Range, check_ranges
from epalm.portable_path import from_portable, portable_encoder, to_portable
from epalm.untrusted.checked_json import build, read_json
from epalm.untrusted.checked_toml import parse_toml

RECORD_FILE = "run.json"
ADAPTER_FILE = "adapter.safetensors"
RECIPE_FILE = "recipe.toml"
METRICS_FILE = "metrics.jsonl"

RANGES: Mapping[str, Range] = {
    "trained": Range(0, 10**15),
    "frozen": Range(0, 10**15),
    "pool_blocks": Range(0, 10**12),
    "window_shards": Range(0, 10**12),
    "shard_blocks": Range(0, 10**12),
}
"""Valid ranges of a record's own numbers."""


RECIPE_ROWS = {"epochs": "epochs", "batch_size": "batch size", "lr": "learning rate"}
"""Recipe key that is not in the run record -> its name in reports and model cards."""


@dataclass(frozen=True)
class RunRecord:
    """Record of a training run.

    Attributes:
        name: name of the run folder.
        task: name of the training task.
        recipe: name or path of the recipe.
        model: settings of the model.
        decoding: decoding settings.
        features: path or URL of the feature store.
        store: the store's comparable fields; evaluation rejects a store with other ones.
        data_root: folder of the task's files.
        seed: seed of initialization, data order and dropout.
        blind: whether it was trained on other samples' features (the blind control).
        lm_digest: CRC-32C of the frozen language model's weights.
        trained: number of trained parameters.
        frozen: number of the language model's parameters.
        order: kind of shuffling, see `epalm.cache.readers.epoch_order.ShuffleSpec`.
        pool_blocks: size of the shuffling pool, see `ShuffleSpec`; a resumed run keeps it, however
            much memory is free then.
        window_shards: shards per window of the shuffling, see `ShuffleSpec`; 0 without windows, and
            in records of earlier versions.
        shard_blocks: blocks per shard if there are windows.
        examples: SHA-256 of the training and validation examples; empty for an imported run.
        weights: local file or folder of the encoder's weights; empty for the published ones, and in
            records of earlier versions.
        joined: paths or URLs of further feature stores, whose features follow those of `features`;
            `store` covers all of them.
        concatenated: whether the stores are parts of one dataset, with features of one encoder.
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
    weights: str = ""
    joined: tuple[str, ...] = ()
    concatenated: bool = False
    window_shards: int = 0
    shard_blocks: int = 0

    def __post_init__(self) -> None:
        """Reject numbers out of range.

        Raises:
            UsageError: names the field, its value and the valid range.
        """
        check_ranges(self, RANGES)

    def differing(self, store: Mapping[str, str], names: Collection[str]) -> list[str]:
        """Differences between a store and the store used in training.

        Args:
            store: `StoreSpec.comparable` of another store.
            names: names of the fields to compare.

        Returns:
            One phrase with both values per field that differs, sorted by name.
        """
        own, other = _portable_store(self.store), _portable_store(store)
        return [
            f"{name} is {other.get(name, 'absent')}, in training {own.get(name, 'absent')}"
            for name in sorted(names)
            if other.get(name) != own.get(name)
        ]

    def save(self, folder: Path) -> None:
        """Write run.json atomically.

        Raises:
            OSError: the file cannot be written; its old content is unchanged.
        """
        text = json.dumps(asdict(self._portable(folder)), indent=1, sort_keys=True) + "\n"
        write_file(folder / RECORD_FILE, text)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read run.json.

        Raises:
            MissingFileError: the folder has no run.json.
            MalformedFileError: run.json is damaged or was written by an incompatible version.
        """
        file = folder / RECORD_FILE
        if not file.is_file():
            raise MissingFileError(
                f"{folder} has no {RECORD_FILE}: give --run a folder that epalm-train made"
            )
        try:
            return build(cls, read_json(file), RECORD_FILE)._located(folder)
        except ValueError as error:
            raise MalformedFileError(
                f"{file} is not a run record of this version: {error}"
            ) from error

    def _portable(self, folder: Path) -> Self:
        """The record as it is written to `folder`."""
        written = self._with_locations(lambda location: to_portable(location, folder))
        return replace(written, recipe=Path(self.recipe).name, store=_portable_store(self.store))

    def _located(self, folder: Path) -> Self:
        """The record with absolute paths, from one that was read from `folder`."""
        return self._with_locations(lambda location: from_portable(location, folder))

    def _with_locations(self, change: Callable[[str], str]) -> Self:
        return replace(
            self,
            features=change(self.features),
            data_root=change(self.data_root),
            weights=change(self.weights),
            joined=tuple(map(change, self.joined)),
            model=replace(self.model, lm=change(self.model.lm)),
        )


def _portable_store(store: Mapping[str, str]) -> dict[str, str]:
    """The fields of a store with the name alone of an encoder that is a local folder."""
    encoder = {"encoder": portable_encoder(store["encoder"])} if "encoder" in store else {}
    return dict(store) | encoder


def read_recipe(folder: Path) -> dict[str, Any]:
    """The keys of a run's recipe.toml; empty without such a file.

    Raises:
        MalformedFileError: the file is damaged.
    """
    file = folder / RECIPE_FILE
    if not file.is_file():
        return {}
    try:
        return parse_toml(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MalformedFileError(
            f"{file} is not a recipe ({error}): restore what `epalm-train` wrote, or remove it"
        ) from error
