"""Converts an official checkpoint into a run folder, as if it had been trained here."""

import logging
from collections.abc import Mapping
from typing import Any

from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, UsageError
from epalm.model.build import build_model
from epalm.model.checkpoints.adapter_io import save_adapter
from epalm.model.checkpoints.official_checkpoint import OfficialCheckpoint, read_official_checkpoint
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RunRecord
from epalm.model.engine.language_model import load_config, weights_digest
from epalm.model.epalm import parameter_counts
from epalm.tasks.types import Kind
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import Recipe, load_recipe
from epalm.train.options.command_options import ImportOptions
from epalm.train.options.preflight_checks import check_recipe_store, other_preprocessing
from epalm.train.options.resolve_options import absolute_folder
from epalm.train.options.train_config import DataConfig
from epalm.train.run_files.run_claim import claimed
from epalm.train.run_files.run_folder import default_name, write_model_card, writes_named

logger = logging.getLogger(__name__)

RECIPE_NAME = "released"
"""Name of the recipe in the record of an imported run."""

PUBLISHED: dict[Kind, str] = {"qa": "vqa2", "caption": "coco-caption"}
"""Kind of task -> recipe with the published settings."""

TOTAL_TOKENS = 30
"""Limit of a text with its begin token and question in the official implementation (max_length)."""

OFFICIAL_PRECISION = "fp16"
"""Precision of the language model in the official accelerate scripts; other ones use "fp32"."""

OFFICIAL_FAMILY = "opt"
"""`model_type` of the language models of official checkpoints."""

CONFIG_KEYS = {
    "epochs": ("schedular", "epochs"),
    "batch_size": ("batch_size_train",),
    "lr": ("optimizer", "lr"),
    "prompt_lr": ("optimizer", "prompt_lr"),
    "adapter_lr": ("optimizer", "adapter_lr"),
    "weight_decay": ("optimizer", "weight_decay"),
    "loss_weight": ("lm_loss_weight",),
    "text_step": ("text_step",),
    "num_beams": ("num_beams",),
}
"""Recipe key -> path of the key in the official configuration, in its spelling."""


def import_checkpoint(options: ImportOptions, data: DataConfig) -> RunRecord:
    """Write a run folder that `epalm-eval` evaluates.

    Args:
        options: values from the command line.
        data: task it was trained for, and the store that the run is to read.

    Raises:
        DataError: the checkpoint cannot be read.
        ModelError: the tensors do not fit the language model, the store and the variant.
        CacheMismatchError: the store was not made with the published preprocessing.
        UsageError: no variant has these tensors, or the run folder is taken.
    """
    official = read_official_checkpoint(options.checkpoint)
    spec = Store.open(data.features).spec
    recipe = official_recipe(official, options, data.task.kind)
    check_recipe_store(spec, recipe)
    if difference := other_preprocessing(spec, recipe):
        raise CacheMismatchError(difference)
    _check_family(recipe)
    settings = recipe.model_settings(data.task.kind, spec)
    model, _ = build_model(settings)
    official.copy_into(model)
    default = default_name(data.task.name, spec, recipe.lm, recipe.variant, blind=False)
    name = options.name or f"{default}_{RECIPE_NAME}"
    trained, frozen = parameter_counts(model)
    record = RunRecord(
        name=name,
        task=data.task.name,
        recipe=RECIPE_NAME,
        model=settings,
        decoding=recipe.decoding(),
        features=data.features,
        store=spec.comparable(),
        data_root=str(data.root),
        seed=0,
        blind=False,
        lm_digest=weights_digest(model.language_model),
        trained=trained,
        frozen=frozen,
        weights=spec.weights_location,
    )
    folder = options.out / name
    with claimed(folder, fresh=options.fresh) as claim:
        claim.open(record, recipe)
        with writes_named(folder):
            save_adapter(model, folder / ADAPTER_FILE)
        write_model_card(folder)
    logger.info("%s: %d tensors, %s", folder, len(official.tensors), recipe.variant)
    for line in str(model.plan).splitlines():
        logger.info("%s", line)
    return record


def _check_family(recipe: Recipe) -> None:
    """Refuse a language model that no official checkpoint was trained with.

    Raises:
        UsageError: the language model is not an OPT.
    """
    family = load_config(recipe.lm, recipe.lm_precision).model_type
    if family != OFFICIAL_FAMILY:
        raise UsageError(
            f"{recipe.lm} is a {family!r} model, official checkpoints were trained with OPT: give "
            "--lm the one that this checkpoint was trained with, e.g. facebook/opt-2.7b; to use "
            "another language model, train a run with `epalm-train --lm`"
        )


def official_recipe(official: OfficialCheckpoint, options: ImportOptions, kind: Kind) -> Recipe:
    """The published recipe with the official tail, the checkpoint's settings and the options.

    Raises:
        RecipeError: a change that no recipe accepts.
        UsageError: no variant has the checkpoint's tensors.
    """
    settings: dict[str, object] = {
        "encoder": "",
        "lm_precision": OFFICIAL_PRECISION,
        "tail": "official",
        "lm": absolute_folder(options.lm),
        "variant": options.variant or official.variant(),
        **_configured(official.config),
    }
    if length := official.prompt_length():
        settings["prompt_length"] = length
    if options.precision:
        settings["lm_precision"] = options.precision
    changes = [*settings.items(), *parse_changes(options.changes or ())]
    return load_recipe(PUBLISHED[kind], changes)


def _configured(config: Mapping[str, Any]) -> dict[str, object]:
    """Recipe keys from the official configuration; an empty one leaves the published values."""
    # A total of 30 is never less than 29 new tokens: a question does not shorten its answer here.
    settings: dict[str, object] = {"max_new_tokens": config.get("max_length", TOTAL_TOKENS) - 1}
    if "start_layer_idx" in config:
        settings["inject"] = f"{config['start_layer_idx']}:{config['end_layer_idx']}"
    for key, path in CONFIG_KEYS.items():
        value: Any = config
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            settings[key] = value
    return settings
