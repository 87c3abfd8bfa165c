"""run.json of a run folder: how to build the model again, and what it was trained on.

Read before anything heavy is imported; `epalm.model.checkpoints.run_io` reads the trained tensors.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from epalm.errors import MalformedFileError, MissingFileError
from epalm.model.method.model_settings import Decoding, ModelSettings
from epalm.number_ranges import Range, check_ranges
from epalm.untrusted.checked_json import build, read_json

RECORD_FILE = "run.json"
ADAPTER_FILE = "adapter.safetensors"
RECIPE_FILE = "recipe.toml"
METRICS_FILE = "metrics.jsonl"

RANGES: Mapping[str, Range] = {
    "trained": Range(0, 10**15),
    "frozen": Range(0, 10**15),
    "pool_blocks": Range(0, 10**12),
}
"""Of a record's own numbers."""


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
        order: kind of the epochs' order, see `epalm.cache.readers.epoch_order.ShuffleSpec`.
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

    def __post_init__(self) -> None:
        """Refuse what no run can have.

        Raises:
            UsageError: names the number, what was found and what was wanted.
        """
        check_ranges(self, RANGES)

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
            return build(cls, read_json(file), RECORD_FILE)
        except ValueError as error:
            raise MalformedFileError(f"{file} is no run record of this version: {error}") from error
