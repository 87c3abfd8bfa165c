"""The average of several runs' trained weights, as a run folder of its own.

Weights that were trained from one start with other orders of the data mostly stay in one basin of
the loss, where their mean is often better than each of them, at the cost of one model (Wortsman et
al., "Model soups", ICML 2022). From different starts they do not, so that is refused.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from torch import Tensor

from epalm.errors import MissingFileError, RunFolderError, UsageError
from epalm.hub.card.card_scores import validated_epochs
from epalm.model.checkpoints.run_record import (
    ADAPTER_FILE,
    METRICS_FILE,
    RECIPE_FILE,
    RECORD_FILE,
    RunRecord,
)
from epalm.model.checkpoints.soup_record import AveragedRun, SoupRecord
from epalm.model.checkpoints.tensor_file import check_tensors, read_tensors, write_tensors
from epalm.model.checkpoints.tensor_mean import mean_tensors
from epalm.train.config.recipe import Recipe, load_recipe
from epalm.train.options.command_options import SoupOptions
from epalm.train.run_files.run_claim import claimed
from epalm.train.run_files.run_folder import write_model_card, writes_named

logger = logging.getLogger(__name__)

MAY_DIFFER = frozenset(
    (
        *("name", "recipe", "seed", "features", "data_root", "weights", "joined"),
        "order",
        "pool_blocks",
        "window_shards",
        "shard_blocks",
    )
)
"""Fields of a record that are locations, or that say in which order the data was read."""


@dataclass(frozen=True)
class Ingredient:
    """A finished run that is averaged."""

    folder: Path
    record: RunRecord
    recipe: Recipe


def average_runs(options: SoupOptions) -> RunRecord:
    """Write a run folder with the mean of each trained tensor over the runs.

    Args:
        options: values from the command line.

    Raises:
        MissingFileError: a run does not exist, or has no trained tensors.
        DataError: a run's files are damaged, or have other tensors than the first run's.
        RunFolderError: a run is not finished, or the folder cannot be written.
        UsageError: fewer than two runs, runs with other settings or another start, or the name is
            taken.
    """
    ingredients = [_read(name, options.out) for name in options.runs]
    check_alike(ingredients)
    first = ingredients[0]
    name = options.name or f"{first.record.name}_soup"
    record = replace(first.record, name=name)
    weight = 1 / len(ingredients)
    averaged = [AveragedRun(one.record.name, one.record.seed, weight) for one in ingredients]
    soup = SoupRecord(first.recipe.init_seed, tuple(averaged))
    folder = options.out / name
    files = [one.folder / ADAPTER_FILE for one in ingredients]
    tensors = mean_tensors(_alike(files), [1.0] * len(files))
    with claimed(folder, fresh=options.fresh) as claim:
        if claim.staging is None:
            raise UsageError(f"{folder} is there already: choose another --name, or give --fresh")
        claim.open(record, replace(first.recipe, lm=first.record.model.lm))
        with writes_named(folder):
            write_tensors(folder / ADAPTER_FILE, tensors)
            soup.save(folder)
        write_model_card(folder)
    logger.info("%s: the average of %d tensors of %d runs", folder, len(tensors), len(ingredients))
    return record


def check_alike(ingredients: Sequence[Ingredient]) -> None:
    """Refuse to average runs with other settings than their seeds, or with different starts.

    Raises:
        UsageError: names what differs.
    """
    if len(ingredients) < 2:
        raise UsageError("an average needs at least two runs: name more run folders")
    first = ingredients[0]
    for other in ingredients[1:]:
        if differences := list(_differences(first, other)):
            raise UsageError(
                f"{other.folder} cannot be averaged with {first.folder}, they differ in "
                f"{'; '.join(differences)}: name runs that differ in --seed alone"
            )
    seeds = [one.record.seed for one in ingredients]
    if len(set(seeds)) < len(seeds):
        raise UsageError(
            f"the runs have the seeds {', '.join(map(str, seeds))}: equal seeds make equal runs, "
            "name runs with different ones"
        )
    if not first.recipe.init_seed:
        raise UsageError(
            "each run was initialized with its own seed, and weights from different starts have no "
            "meaningful average: train them with `--set init_seed=1` and different --seed"
        )


def _alike(files: Sequence[Path]) -> Iterator[dict[str, Tensor]]:
    """The tensors of each file, compared with those of the first.

    Raises:
        DataError: a file is damaged, has a value that is not finite, or other tensors than the
            first.
    """
    first: dict[str, Tensor] = {}
    for file in files:
        tensors = read_tensors(file).tensors
        first = first or tensors
        check_tensors(tensors, first, source=str(file))
        yield tensors


def _read(name: str, runs: Path) -> Ingredient:
    folder = Path(name) if (Path(name) / RECORD_FILE).is_file() else runs / name
    record = RunRecord.load(folder)
    if not (folder / ADAPTER_FILE).is_file():
        raise MissingFileError(
            f"{folder} has no {ADAPTER_FILE}: resume its training to the end of an epoch"
        )
    recipe = load_recipe(str(folder / RECIPE_FILE))
    done = validated_epochs(folder)
    if (folder / METRICS_FILE).is_file() and done < recipe.epochs:
        raise RunFolderError(
            f"{folder} has finished {done} of {recipe.epochs} epochs: resume its training first"
        )
    return Ingredient(folder, record, recipe)


def _differences(first: Ingredient, other: Ingredient) -> Iterator[str]:
    """Every setting that differs, with both values."""
    recipes = asdict(first.recipe) | {"lm": ""}, asdict(other.recipe) | {"lm": ""}
    for key, value in recipes[0].items():
        if recipes[1][key] != value:
            yield f"{key} ({value!r} and {recipes[1][key]!r})"
    records = _comparable(first), _comparable(other)
    for name in dict.fromkeys((*records[0], *records[1])):
        value, other_value = (record.get(name) for record in records)
        if value != other_value and recipes[0].get(name) == recipes[1].get(name):
            yield f"{name} ({value} and {other_value})"


def _comparable(run: Ingredient) -> dict[str, object]:
    """The fields of a record that have to be equal."""
    record, recipe = run.record, run.recipe
    drawn = recipe.train_examples or recipe.val_examples or recipe.train_fraction < 1
    values = {
        field.name: getattr(record, field.name)
        for field in fields(record)
        if field.name not in MAY_DIFFER and not (drawn and field.name == "examples")
    }
    del values["model"], values["store"]
    values |= {f"{name} of the store": value for name, value in record.store.items()}
    model = asdict(replace(record.model, lm=""))  # the digest tells whether it is the same
    return values | model
