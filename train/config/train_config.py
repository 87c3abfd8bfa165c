"""What to train, as `epalm-train` and the demo ask for it."""

from dataclasses import dataclass
from pathlib import Path

from epalm.cache.readers.reader_choice import AUTO
from epalm.tasks.types import Task
from epalm.train.config.recipe import Recipe
from epalm.train.parallel.distributed import ALONE, Group


@dataclass(frozen=True)
class TrainConfig:
    """What to train.

    Attributes:
        folder: the run's folder; its last part is the run's name.
        task: what is asked.
        data_root: where the task's files lie.
        features: path or URL of the store.
        recipe: all settings.
        recipe_name: for the record.
        seed: of initialisation, order, answers and dropout.
        device: e.g. "cpu" or "cuda".
        blind: train on other media's features.
        limit: use only the first examples of each split; 0 for all.
        fresh: delete a run that is there.
        reader: how vectors are read, "auto" or one of
            `epalm.cache.readers.reader_choice.TRAIN_READERS`.
        text_states: folder for the states of texts, see `epalm.train.data.cached_text_states`; None
            to compute them in every step.
        quiet: show no progress.
        group: the processes that train together, connected.
        shard: divide the frozen weights among them.
    """

    folder: Path
    task: Task
    data_root: Path
    features: str
    recipe: Recipe
    recipe_name: str
    seed: int = 0
    device: str = "cpu"
    blind: bool = False
    limit: int = 0
    fresh: bool = False
    reader: str = AUTO
    text_states: Path | None = None
    quiet: bool = False
    group: Group = ALONE
    shard: bool = False
