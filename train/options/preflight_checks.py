"""Checks of a recipe against its store and task that need no torch."""

from epalm.cache.spec import StoreSpec
from epalm.devices import check_device_name
from epalm.errors import CacheMismatchError, RecipeError
from epalm.precision import NAMES
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.types import Task
from epalm.train.config.recipe import Recipe
from epalm.train.run_files.run_folder import check_name


def check_names(recipe: Recipe, task: Task, spec: StoreSpec, *, device: str, run: str) -> None:
    """Refuse unknown names, and a store that does not fit the recipe.

    Raises:
        UsageError: unknown type of device, impossible run name, or a block that the store lacks.
        RecipeError: unknown precision.
        UnknownSplitError: the task has no such split.
        CacheMismatchError: `check_recipe_store` refuses the store.
    """
    check_name(run)
    check_device_name(device)
    if recipe.lm_precision not in NAMES:
        raise RecipeError(
            f"lm_precision is {recipe.lm_precision!r}, expected one of {', '.join(NAMES)}"
        )
    for split in (recipe.train_split, recipe.val_split):
        check_split(split or task.train_split, task.splits, owner=f"task {task.name}")
    check_recipe_store(spec, recipe)
    recipe.model_settings(task.kind, spec).text_template()


def check_recipe_store(spec: StoreSpec, recipe: Recipe) -> None:
    """Compare the store with the encoder and preprocessing that the recipe requires.

    Raises:
        CacheMismatchError: the store has another encoder or another preprocessing.
    """
    preset = spec.fingerprint.get("preprocessing.name", "")
    compared = {
        "encoder": (spec.encoder, recipe.encoder),
        "preprocessing": (preset, recipe.preprocessing),
    }
    for name, (value, required) in compared.items():
        if required and required != value:
            raise CacheMismatchError(
                f"the store's {name} is {value!r}, the recipe wants {required!r}: run "
                f"`epalm-extract --{name} {required} --dataset {spec.dataset}`, or train with "
                f"`--set {name}={value}` or another recipe"
            )
