"""How a run was trained, in words for people."""

import tomllib
from pathlib import Path

from epalm.model.saved import RunRecord

RECIPE_FILE = "recipe.toml"

RECIPE_ROWS = {"epochs": "epochs", "batch_size": "batch size", "lr": "learning rate"}
"""Keys of the recipe that no run record holds -> how the report calls them."""


def readable_settings(record: RunRecord, folder: Path) -> dict[str, str]:
    """Name -> value, in the order in which a reader asks.

    Args:
        record: the run.
        folder: its folder, whose recipe.toml adds epochs, batch size and learning rate if it is
            there.
    """
    model, decoding = record.model, record.decoding
    share = 100 * record.trained / (record.trained + record.frozen)
    beams = "greedy" if decoding.num_beams == 1 else f"{decoding.num_beams} beams"
    return {
        "language model": f"{model.lm}, frozen, {model.precision}",
        "language model parameters": f"{record.frozen:,}",
        "encoder": f"{record.store['encoder']} over {record.store['dataset']}, frozen",
        "trained parameters": f"{record.trained:,} ({share:.4f} % of all but the encoder's)",
        "variant": model.variant,
        "soft prompt": f"{model.prompt_length} vectors, where the variant has one",
        "injection": f"{model.inject}, {model.cached} vectors, tail {model.tail}",
        "recipe": record.recipe,
        **_recipe_rows(folder / RECIPE_FILE),
        "text": model.template,
        "supervised": model.supervise,
        "decoding": f"{beams}, at most {decoding.max_new_tokens} new tokens",
        "trained blind": "yes" if record.blind else "no",
        "seed": str(record.seed),
        "features": record.features,
    }


def _recipe_rows(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    recipe = tomllib.loads(file.read_text(encoding="utf-8"))
    return {shown: str(recipe[key]) for key, shown in RECIPE_ROWS.items() if key in recipe}
