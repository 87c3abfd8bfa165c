"""Mistakes that show before torch is imported: a recipe against its store and its task."""

from epalm.cache.spec import StoreSpec
from epalm.devices import check_device_name
from epalm.errors import CacheMismatchError, RecipeError
from epalm.precision import NAMES
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.types import Task
from epalm.train.config.recipe import Recipe
from epalm.train.run_files.run_folder import check_name


def check_names(recipe: Recipe, task: Task, spec: StoreSpec, *, device: str, run: str) -> None:
    """Refuse names that nothing goes by, and a store that the recipe does not want.

    Raises:
        UsageError: no such type of device, or no folder can have the run's name.
        RecipeError: no such precision.
        UnknownSplitError: the task has no such split.
        CacheMismatchError: see `check_recipe_store`.
        UsageError: the store lacks a block that the recipe uses.
    """
    check_name(run)
    check_device_name(device)
    if recipe.lm_precision not in NAMES:
        raise RecipeError(
            f"lm_precision is {recipe.lm_precision!r}, wanted one of {', '.join(NAMES)}"
        )
    for split in (recipe.train_split, recipe.val_split):
        check_split(split or task.train_split, task.splits, owner=f"task {task.name}")
    check_recipe_store(spec, recipe)
    recipe.model_settings(task.kind, spec)


def check_recipe_store(spec: StoreSpec, recipe: Recipe) -> None:
    """Compare the store with what the recipe wants.

    Raises:
        CacheMismatchError: another encoder or another preprocessing.
    """
    preset = spec.fingerprint.get("preprocessing.name", "")
    compared = {
        "encoder": (spec.encoder, recipe.encoder),
        "preprocessing": (preset, recipe.preprocessing),
    }
    for name, (value, wanted) in compared.items():
        if wanted and wanted != value:
            raise CacheMismatchError(
                f"the store's {name} is {value!r}, the recipe wants {wanted!r}: run "
                f"`epalm-extract --{name} {wanted} --dataset {spec.dataset}`, or train with "
                f"`--set {name}={value}` or another recipe"
            )
