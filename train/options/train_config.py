"""The three values that describe a training: the data, the model and how the run is executed."""

from dataclasses import dataclass
from pathlib import Path

from epalm.cache.readers.joined.joined_stores import JoinedStores
from epalm.cache.readers.reader_choice import AUTO
from epalm.tasks.types import Task
from epalm.train.config.recipe import Recipe
from epalm.train.parallel.distributed import ALONE, Group


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    Attributes:
        features: path or URL of the feature store, or of the first one.
        task: task whose examples are trained on.
        root: folder of the task's files.
        limit: number of examples of each split, from its beginning; 0 for all.
        blind: train a control on the features of other samples of the same split.
        joined: paths or URLs of further stores, whose rows are joined to those of the first.
        common: use the samples that all stores have; otherwise they must have the same ones.
        concatenate: the stores are parts of one dataset instead, with different samples.
    """

    features: str
    task: Task
    root: Path
    limit: int = 0
    blind: bool = False
    joined: tuple[str, ...] = ()
    common: bool = False
    concatenate: bool = False

    def open_stores(self) -> JoinedStores:
        """Open the stores; see `JoinedStores.open` for the errors."""
        return JoinedStores.open(
            (self.features, *self.joined), common=self.common, concatenate=self.concatenate
        )


@dataclass(frozen=True)
class ModelConfig:
    """What to train, and with which settings.

    Attributes:
        recipe: settings of the model and of its optimization.
        recipe_name: name of the recipe in the run's record.
        seed: seed of initialization, data order, drawn answers and dropout.
    """

    recipe: Recipe
    recipe_name: str
    seed: int = 0


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how to train.

    Attributes:
        folder: run folder; its last part is the run's name.
        fresh: delete a run that is there instead of resuming it.
        device: device of this process, e.g. "cpu" or "cuda:1".
        reader: how features are read: "auto", or one of
            `epalm.cache.readers.reader_choice.TRAIN_READERS`.
        text_states: folder of cached text states, see `epalm.train.data.cached_text_states`; None
            to compute them in every step.
        group: processes that train together, connected.
        shard_weights: shard the frozen weights across these processes.
        track: name of a tracker, a key of `epalm.train.run_files.trackers.tracking.TRACKERS`; None
            for none.
        quiet: show no progress.
    """

    folder: Path
    fresh: bool = False
    device: str = "cpu"
    reader: str = AUTO
    text_states: Path | None = None
    group: Group = ALONE
    shard_weights: bool = False
    track: str | None = None
    quiet: bool = False
