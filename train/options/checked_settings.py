"""Settings of a run once its processes and its store are known, checked before loading."""

from dataclasses import replace

from epalm.cache.spec import StoreSpec
from epalm.errors import UsageError
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.families.model_source import check_source
from epalm.model.method.variants import find_variant
from epalm.precision import AUTO, choose_precision
from epalm.train.config.recipe import Recipe
from epalm.train.options.preflight_checks import check_recipe_store
from epalm.train.options.train_config import ModelConfig, RuntimeConfig
from epalm.train.parallel.weight_sharding import check_world_size


def resolve_precision(
    model: ModelConfig, runtime: RuntimeConfig, earlier: RunRecord | None
) -> ModelConfig:
    """The same configuration with a recipe that names the precision of the language model.

    With "auto" a resumed run keeps its precision, and a language model that is trained has fp32.
    Rank 0 decides for all processes.

    Args:
        model: recipe, whose precision may be "auto".
        runtime: device and processes.
        earlier: record of the run to resume; None for a new run.

    Raises:
        UsageError: the device cannot compute in this precision.
    """
    precision = ""
    if runtime.group.leads:
        precision = model.recipe.lm_precision
        trained = find_variant(model.recipe.variant).language_model == "trained"
        precision = choose_precision(
            "fp32" if precision == AUTO and trained else precision,
            runtime.device,
            recorded=earlier.model.precision if earlier else "",
            where=runtime.folder,
        )
    precision = runtime.group.gather(precision)[0]
    return replace(model, recipe=replace(model.recipe, lm_precision=precision))


def check_settings(recipe: Recipe, runtime: RuntimeConfig, spec: StoreSpec) -> None:
    """Refuse settings that cannot be trained with on a store, before anything is loaded.

    Raises:
        CacheMismatchError: `check_recipe_store` refuses the store.
        ModelError: `check_source` refuses the features.
        UsageError: options that exclude each other, or too many processes.
    """
    check_recipe_store(spec, recipe)
    check_source(recipe.lm)
    check_world_size(runtime.group, recipe)
    if runtime.text_states and runtime.shard_weights:
        raise UsageError(
            "--text-states computes in one process, --shard-weights in all: use one of them"
        )
