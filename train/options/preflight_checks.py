"""Checks of a recipe against its store and task that need no torch."""

import logging
from collections.abc import Sequence

from epalm.cache.preprocessing_names import recorded_preprocessing, written_preprocessing
from epalm.cache.spec import StoreSpec
from epalm.devices import check_device_name
from epalm.errors import CacheMismatchError, RecipeError, UsageError
from epalm.model.checkpoints.validation_figures import IMAGE_GAIN
from epalm.model.families.model_source import check_source, check_vocabulary_file
from epalm.model.method.injection import check_span
from epalm.model.method.variants import find_variant
from epalm.precision import NAMES
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.types import Task
from epalm.train.config.recipe import Recipe
from epalm.train.run_files.run_folder import check_name

NEEDED_BY_TEXT_STATES = (
    "--text-states needs a variant that trains nothing below the injection (lin, 6-connectors, "
    "late, late-light, late-deep, late-ada), lm_dropout 0, and a first injected layer above 0"
)
"""What a cache of text states requires of a recipe, as a message."""

logger = logging.getLogger(__name__)


def check_names(
    recipe: Recipe, task: Task, specs: Sequence[StoreSpec], *, device: str, run: str
) -> None:
    """Refuse unknown names, and stores that do not fit the recipe.

    Another preprocessing than the recipe expects is warned about. Encoder and preprocessing of a
    recipe are those of the first store.

    Raises:
        UsageError: unknown type of device, impossible run name or span of layers, or a block that
            the store lacks.
        ModelError: the language model is no folder of a model with a tokenizer, and no hub id.
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
    check_span(recipe.inject)
    check_source(recipe.lm)
    check_vocabulary_file(recipe.lm)
    for split in (recipe.train_split, recipe.val_split):
        check_split(split or task.train_split, task.splits, owner=f"task {task.name}")
    check_recipe_store(specs[0], recipe)
    if difference := other_preprocessing(specs[0], recipe):
        logger.warning("%s", difference)
    recipe.model_settings(task.kind, *specs).text_template()


def check_best_by(recipe: Recipe, *, blind: bool) -> None:
    """Refuse to select the best epoch of a blind run by the image gain.

    Raises:
        UsageError: names the figures that a blind run has.
    """
    if blind and recipe.best_by == IMAGE_GAIN:
        raise UsageError(
            "best_by is image_gain, but in a blind run every sample has the features of another "
            "one already: give `--set best_by=score`, or `--set best_by=loss`"
        )


def check_text_states(recipe: Recipe) -> None:
    """Refuse cached text states where the recipe alone shows that training changes them.

    Raises:
        UsageError: names the settings that work.
    """
    variant = find_variant(recipe.variant)
    at_input = variant.span == "input" if recipe.inject == "auto" else recipe.inject[:2] == "0:"
    below = (variant.prompt != "none" or variant.adapter_factor) and not variant.late
    trained = below or variant.language_model != "frozen"
    if trained or at_input or recipe.lm_dropout:
        raise UsageError(NEEDED_BY_TEXT_STATES)


def check_recipe_store(spec: StoreSpec, recipe: Recipe) -> None:
    """Compare the store with the encoder that the recipe requires.

    Raises:
        CacheMismatchError: the store has another encoder.
    """
    if recipe.encoder and recipe.encoder != spec.encoder:
        raise CacheMismatchError(
            f"the store's encoder is {spec.encoder!r}, the recipe wants {recipe.encoder!r}: run "
            f"`epalm-extract --encoder {recipe.encoder} --dataset {spec.dataset}`, or train with "
            f"`--set encoder={spec.encoder}` or another recipe"
        )


def other_preprocessing(spec: StoreSpec, recipe: Recipe) -> str:
    """Describe a preprocessing of the store that the recipe does not expect; "" if it does."""
    found = spec.fingerprint.get("preprocessing.name", "")
    if not recipe.preprocessing or recorded_preprocessing(recipe.preprocessing) == found:
        return ""
    wanted = written_preprocessing(recorded_preprocessing(recipe.preprocessing))
    return (
        f"the store's preprocessing is {written_preprocessing(found)!r}, the recipe expects "
        f"{wanted!r}: `epalm-extract --preprocessing {wanted} --encoder {spec.encoder} --dataset "
        f"{spec.dataset}` with another --out makes such a store, "
        f"`--set preprocessing={written_preprocessing(found)}` declares this one as intended"
    )
