"""A released checkpoint as a run folder, as if it had been trained here."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.cache.store import Store
from epalm.model.build import build_model
from epalm.model.checkpoints.official_checkpoint import OfficialCheckpoint, read_official_checkpoint
from epalm.model.checkpoints.run_io import save_adapter
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RunRecord
from epalm.model.engine.language_model import weights_digest
from epalm.model.epalm import parameter_counts
from epalm.tasks.types import Kind, Task
from epalm.train.config.config_io import Change
from epalm.train.config.preflight_checks import check_recipe_store
from epalm.train.config.recipe import Recipe, load_recipe
from epalm.train.run_files.run_claim import claimed
from epalm.train.run_files.run_folder import default_name, write_card, writes_named

logger = logging.getLogger(__name__)

RECIPE_NAME = "released"
"""What the run record gives as its recipe."""

PUBLISHED: dict[Kind, str] = {"qa": "vqa2", "caption": "coco-caption"}
"""Recipes that hold the published settings of training."""

TOTAL_TOKENS = 30
"""The released code's limit of a text with its begin token and question (max_length)."""

RELEASED_PRECISION = "fp16"
"""Of the language model in the released accelerate scripts; the float32 ones have "fp32"."""

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
"""Recipe key -> where the released configuration has it, in its spelling."""


@dataclass(frozen=True)
class ImportConfig:
    """What to import.

    Attributes:
        checkpoint: the released file.
        runs: folder of all runs.
        name: of the run folder; empty for one made of the task, encoder, model and variant.
        task: what it was trained for.
        data_root: where the task's files lie.
        features: path or URL of the store it is to read.
        lm: the OPT it was trained with.
        variant: empty to tell it from the tensors.
        changes: changes of recipe keys, see `load_recipe`.
        fresh: delete a run that is there.
    """

    checkpoint: Path
    runs: Path
    name: str
    task: Task
    data_root: Path
    features: str
    lm: str
    variant: str
    changes: tuple[Change, ...]
    fresh: bool


def import_checkpoint(request: ImportConfig) -> RunRecord:
    """Write a run folder that `epalm-eval` evaluates.

    Raises:
        DataError: the checkpoint cannot be read.
        ModelError: its tensors do not fit the language model, the store and the variant.
        CacheMismatchError: the store was not made with the published preprocessing.
        UsageError: no variant is like it, or the run folder is taken.
    """
    released = read_official_checkpoint(request.checkpoint)
    spec = Store.open(request.features).spec
    recipe = released_recipe(released, request)
    check_recipe_store(spec, recipe)
    settings = recipe.model_settings(request.task.kind, spec)
    model, _ = build_model(settings)
    released.copy_into(model)
    named = default_name(request.task.name, spec, recipe.lm, recipe.variant, blind=False)
    name = request.name or f"{named}_{RECIPE_NAME}"
    trained, frozen = parameter_counts(model)
    record = RunRecord(
        name=name,
        task=request.task.name,
        recipe=RECIPE_NAME,
        model=settings,
        decoding=recipe.decoding(),
        features=request.features,
        store=spec.comparable(),
        data_root=str(request.data_root),
        seed=0,
        blind=False,
        lm_digest=weights_digest(model.language_model),
        trained=trained,
        frozen=frozen,
    )
    folder = request.runs / name
    with claimed(folder, fresh=request.fresh) as claim:
        claim.open(record, recipe)
        with writes_named(folder):
            save_adapter(model, folder / ADAPTER_FILE)
        write_card(folder, record, {"imported from": request.checkpoint.name})
    logger.info("%s: %d tensors, %s", folder, len(released.tensors), recipe.variant)
    for line in str(model.plan).splitlines():
        logger.info("%s", line)
    return record


def released_recipe(released: OfficialCheckpoint, request: ImportConfig) -> Recipe:
    """The published recipe with the released tail and what the checkpoint says of itself.

    Raises:
        RecipeError: a change that no recipe takes.
        UsageError: no variant is like the checkpoint.
    """
    wanted: dict[str, object] = {
        "encoder": "",
        "lm_precision": RELEASED_PRECISION,
        "tail": "official",
        "lm": request.lm,
        "variant": request.variant or released.variant(),
        **_configured(released.config),
    }
    if length := released.prompt_length():
        wanted["prompt_length"] = length
    return load_recipe(PUBLISHED[request.task.kind], [*wanted.items(), *request.changes])


def _configured(config: Mapping[str, Any]) -> dict[str, object]:
    """Recipe keys from the released configuration; an empty one leaves the published values."""
    # A total of 30 is never less than 29 new tokens: a question does not shorten its answer here.
    found: dict[str, object] = {"max_new_tokens": config.get("max_length", TOTAL_TOKENS) - 1}
    if "start_layer_idx" in config:
        found["inject"] = f"{config['start_layer_idx']}:{config['end_layer_idx']}"
    for key, place in CONFIG_KEYS.items():
        value: Any = config
        for name in place:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            found[key] = value
    return found
