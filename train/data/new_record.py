"""The record of a run that is about to be trained."""

from pathlib import Path

from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.engine.language_model import weights_digest
from epalm.model.epalm import EPALM, parameter_counts
from epalm.model.method.model_settings import ModelSettings
from epalm.train.data.datasets import Data
from epalm.train.options.train_config import DataConfig, ModelConfig


def new_record(
    data: DataConfig,
    model: ModelConfig,
    settings: ModelSettings,
    examples: Data,
    network: EPALM,
    *,
    folder: Path,
) -> RunRecord:
    """The record of a run.

    Args:
        data: what it is trained on.
        model: what is trained.
        settings: settings of the model.
        examples: examples of the run, with features.
        network: the model with its language model as it was loaded.
        folder: run folder.
    """
    trained, frozen = parameter_counts(network)
    return RunRecord(
        name=folder.name,
        task=data.task.name,
        recipe=model.recipe_name,
        model=settings,
        decoding=model.recipe.decoding(),
        features=data.features,
        joined=data.joined,
        concatenated=data.concatenate,
        store=examples.source.spec.comparable(),
        data_root=str(data.root),
        seed=model.seed,
        blind=data.blind,
        lm_digest=weights_digest(network.language_model),
        trained=trained,
        frozen=frozen,
        order=examples.order.kind,
        pool_blocks=examples.order.pool_blocks,
        window_shards=examples.order.window_shards,
        shard_blocks=examples.order.shard_blocks,
        examples=examples.digest(),
        weights=examples.source.spec.weights_location,
    )
