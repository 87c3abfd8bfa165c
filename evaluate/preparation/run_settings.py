"""How a run was trained and what it was asked, in words for people."""

from pathlib import Path
from typing import Any

from epalm.errors import MalformedFileError
from epalm.model.checkpoints.run_record import RECIPE_FILE, RunRecord
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.variants import find_variant
from epalm.untrusted.checked_toml import parse_toml

RECIPE_ROWS = {"epochs": "epochs", "batch_size": "batch size", "lr": "learning rate"}
"""Keys of the recipe that no run record holds -> how the report calls them."""


def readable_settings(
    record: RunRecord, folder: Path, *, answering: str, evaluated_on: str, precision: str
) -> dict[str, str]:
    """Name -> value, in the order in which a reader asks.

    Args:
        record: the run.
        folder: its folder, whose recipe.toml adds epochs, batch size and learning rate if it is
            there.
        answering: how it answers, in words.
        evaluated_on: what it was asked about; see `data_words`.
        precision: in which the language model computes; that of training unless it cannot run.

    Raises:
        MalformedFileError: recipe.toml is damaged.
    """
    model = record.model
    recipe = read_recipe(folder)
    share = 100 * record.trained / (record.trained + record.frozen)
    state = find_variant(model.variant).language_model
    computed = "" if precision == model.precision else f", evaluated in {precision}"
    return {
        "language model": f"{model.lm}, {state}, {model.precision}{computed}",
        "language model parameters": f"{record.frozen:,}",
        "encoder": f"{record.store['encoder']}, frozen",
        "trained parameters": f"{record.trained:,} ({share:.4f} % of all but the encoder's)",
        "variant": model.variant,
        "soft prompt": _prompt(model),
        "injection": _injection(model),
        "recipe": record.recipe,
        **{shown: str(recipe[key]) for key, shown in RECIPE_ROWS.items() if key in recipe},
        "text": model.template,
        "supervised": model.supervise,
        "decoding": answering,
        "trained blind": "yes" if record.blind else "no",
        "seed": str(record.seed),
        "trained on": data_words(record.task, record.store["dataset"], record.features),
        "evaluated on": evaluated_on,
    }


def read_recipe(folder: Path) -> dict[str, Any]:
    """The keys of a run's recipe.toml; none if it has no such file.

    Raises:
        MalformedFileError: it is damaged.
    """
    file = folder / RECIPE_FILE
    if not file.is_file():
        return {}
    try:
        return parse_toml(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MalformedFileError(
            f"{file} is no recipe ({error}): put back what `epalm-train` wrote, or remove it"
        ) from error


def data_words(task: str, dataset: str, features: str) -> str:
    """A set of media, the task about it, and the store of its vectors."""
    return f"{dataset}, task {task}, features {features}"


def _prompt(model: ModelSettings) -> str:
    kind = find_variant(model.variant).prompt
    ways = {"plain": "", "mlp": ", through an MLP", "deep": " at every layer"}
    return "none" if kind == "none" else f"{model.prompt_length} vectors{ways[kind]}"


def _injection(model: ModelSettings) -> str:
    variant = find_variant(model.variant)
    vectors = {
        "all": f"{model.cached} cached vectors",
        "last": "the last vector",
        "tokens": f"all {model.positions} tokens of the last block",
    }[variant.features]
    layers = {"auto": "over the published layers", "input": "before the input"}[variant.span]
    where = layers if model.inject == "auto" else f"at layers {model.inject}"
    step = "" if model.text_step == 1 else f", every {model.text_step} layers"
    return f"{vectors} {where}{step}, tail {model.tail}"
