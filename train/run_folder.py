"""Run folders: their names, what they record, and when one may be continued."""

import importlib.metadata
import json
import shutil
from pathlib import Path

from epalm.cache.spec import StoreSpec
from epalm.errors import CacheMismatchError, UsageError
from epalm.model.run_record import RunRecord
from epalm.model.variants import find_variant

RECIPE_FILE = "recipe.toml"
VERSIONS_FILE = "versions.json"
CARD_FILE = "README.md"

RECORDED_PACKAGES = ("epalm", "torch", "transformers", "numpy", "zarr")
"""Packages whose versions a run records."""


def default_name(task: str, spec: StoreSpec, lm: str, variant: str, *, blind: bool) -> str:
    """A folder name that tells runs apart, e.g. "coco-vqa2_vit-b16_opt-2.7b_full"."""
    named = task if spec.dataset in task else f"{spec.dataset}-{task}"
    parts = [Path(named).name, spec.encoder, Path(lm).name, variant]
    return "_".join(parts + ["blind"] * blind).replace("/", "-").replace(":", "-")


def earlier_run(folder: Path, spec: StoreSpec, *, fresh: bool) -> RunRecord | None:
    """The run that is to go on in a folder, or none if one begins.

    Args:
        folder: runs/<name>.
        spec: of the store given now.
        fresh: whether what is there is to be deleted.

    Raises:
        CacheMismatchError: the run was trained on a store of other settings or records.
    """
    if fresh or not (folder / RECIPE_FILE).is_file():
        return None
    record = RunRecord.load(folder)
    found = spec.comparable()
    differing = record.differing(found, found.keys() | record.store.keys())
    if differing:
        raise CacheMismatchError(
            f"the store is not the one that {folder} was trained on: {'; '.join(differing)}. Name "
            "that one with --features, choose another --name, or start over with --fresh"
        )
    return record


def open_run_folder(folder: Path, record: RunRecord, recipe: str, *, fresh: bool) -> None:
    """Create the folder, or check that it holds the same run so that it can go on.

    Args:
        folder: runs/<name>.
        record: what the run is.
        recipe: the resolved recipe as TOML.
        fresh: delete what is there.

    Raises:
        UsageError: the folder holds a run of other settings, or something else.
    """
    if fresh and (folder / RECIPE_FILE).is_file():
        shutil.rmtree(folder)
    if (folder / RECIPE_FILE).is_file():
        _check_same(folder, record, recipe)
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and holds no run: choose another --name")
    folder.mkdir(parents=True, exist_ok=True)
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    (folder / VERSIONS_FILE).write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")
    record.save(folder)
    (folder / RECIPE_FILE).write_text(recipe, encoding="utf-8")


def write_card(folder: Path, record: RunRecord, best: dict[str, str]) -> None:
    """Write the model card: what was trained, on what, and the best validation score.

    Args:
        folder: the run.
        record: what the run is.
        best: lines of the result table, name -> value.
    """
    share = record.trained / (record.trained + record.frozen)
    state = find_variant(record.model.variant).language_model
    rows = {
        "task": record.task,
        "language model": f"{record.model.lm} ({state}, {record.model.precision})",
        "encoder": f"{record.store['encoder']}, {record.store['dataset']}",
        "variant": record.model.variant + (", blind control" if record.blind else ""),
        "trained parameters": f"{record.trained:,} ({100 * share:.4f} % of all but the encoder)",
        "seed": str(record.seed),
    } | best
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    table = "\n".join(["| | |", "|---|---|", *lines])
    text = (
        f"# {record.name}\n\neP-ALM: what was trained around a language model.\n\n"
        f"{table}\n\n`adapter.safetensors` holds the trained tensors, `recipe.toml` "
        "every setting, `run.json` what evaluation needs to build the model again.\n"
    )
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


def _check_same(folder: Path, record: RunRecord, recipe: str) -> None:
    found = RunRecord.load(folder)
    same_recipe = (folder / RECIPE_FILE).read_text(encoding="utf-8") == recipe
    if found != record or not same_recipe:
        differing = [name for name, value in vars(record).items() if vars(found)[name] != value]
        what = ", ".join(differing + ["recipe.toml"] * (not same_recipe))
        raise UsageError(
            f"{folder} holds a run with other settings ({what} differ): "
            "choose another --name, or start over with --fresh"
        )
