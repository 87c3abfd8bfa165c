"""What do a hundredth and a tenth of the training examples still teach, beside a blind control?

    OMP_NUM_THREADS=1 python -m bench.low_data --features cache/daquar_vitti16.zarr \
        --features cache/flickr8k_vitti16.zarr --lm opt-mini --seed 0 --seed 1 --out runs/low-data

Every run takes the same number of optimiser steps, so that a smaller part of the data is seen more
often. A run that is finished stays: the same command goes on behind the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.support.score_grid import publish_grid, spread
from bench.support.timed_rounds import commit
from epalm.cache.store import Store
from epalm.console import configure_logging
from epalm.errors import MissingFileError
from epalm.evaluate.preparation.eval_preparation import EvalConfig as EvalRequest
from epalm.evaluate.run_evaluation import evaluate
from epalm.evaluate.scores.eval_results import Evaluation, read_evaluation
from epalm.tasks.task_registry import load_task, resolve_data_root
from epalm.tasks.types import Example, Task
from epalm.train.config.recipe import load_recipe
from epalm.train.config.train_config import TrainConfig
from epalm.train.run_training import train

FRACTIONS = (0.01, 0.1, 1.0)
"""Of the training examples."""

VALIDATED = 16
"""Examples validated after the only epoch of a run, which chooses nothing."""


@dataclass(frozen=True)
class Job:
    """One point of a curve: a part of a store's examples, with the right media or with others.

    The seed is of the part and of training.
    """

    features: str
    fraction: float
    blind: bool
    seed: int

    def folder(self, out: Path) -> Path:
        """Of its run; a control is called as the reports look for it."""
        name = Store.open(self.features).spec.dataset
        part = f"{name}-{100 * self.fraction:g}pc-seed{self.seed}"
        return out / f"{part}{'_blind' if self.blind else ''}"


@dataclass(frozen=True)
class Alike:
    """What all runs have in common: recipe, its changes, optimiser steps, split to score."""

    recipe: str
    changes: tuple[str, ...]
    steps: int
    split: str


def part_of(task: Task, fraction: float, *, drawn: int, seed: int) -> Task:
    """The task over a part of its training examples, repeated until there are `drawn` of them.

    A smaller part is within a larger one; validation examples stay as they are.
    """

    def examples(split: str, root: Path) -> list[Example]:
        found = task.examples(split, root)
        if split != task.train_split:
            return found
        order = np.random.default_rng(seed).permutation(len(found))
        kept = order[: max(1, round(fraction * len(found)))]
        return [found[place] for place in np.resize(kept, drawn)]

    return replace(task, examples=examples)


def run(job: Job, alike: Alike, folder: Path) -> Evaluation:
    """Train and score what is not there yet.

    Args:
        job: what.
        alike: how.
        folder: of the run.
    """
    blind = "-blind" if job.blind else ""
    scored = folder / "eval" / f"{alike.split}{blind}"
    try:
        return read_evaluation(scored)
    except MissingFileError:
        pass
    spec = Store.open(job.features).spec
    root = resolve_data_root(None, recorded=spec.data_root, task=spec.tasks[0])
    task = load_task(spec.tasks[0], root)
    recipe = load_recipe(alike.recipe, [*alike.changes, "epochs=1", f"val_examples={VALIDATED}"])
    drawn = alike.steps * recipe.batch_size
    train(
        TrainConfig(
            folder=folder,
            task=part_of(task, job.fraction, drawn=drawn, seed=job.seed),
            data_root=root,
            features=job.features,
            recipe=recipe,
            recipe_name=alike.recipe,
            seed=job.seed,
            blind=job.blind,
            fresh=True,
            quiet=True,
        )
    )
    return evaluate(EvalRequest(folder, alike.split, blind=job.blind, quiet=True)).evaluation


def rows(jobs: Sequence[Job], found: Sequence[Evaluation]) -> list[list[str]]:
    """Head, then one row per set and fraction: scores and controls x 100 over all seeds."""
    head = ["set", "metric", "training examples", "full", "blind control"]
    cells: dict[tuple[str, str, str], tuple[list[float], list[float]]] = {}
    for job, evaluation in zip(jobs, found, strict=True):
        name = Store.open(job.features).spec.dataset
        row = (name, evaluation.headline.replace("_", " "), f"{100 * job.fraction:g} %")
        scores = cells.setdefault(row, ([], []))
        scores[job.blind].append(100 * evaluation.scores[evaluation.headline].value)
    return [head, *([*row, *map(spread, scores)] for row, scores in cells.items())]


def main(
    features: Annotated[list[str], typer.Option(help="Path or URL of a store; several times.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs.")],
    lm: Annotated[str, typer.Option(help="OPT by hub id or local folder.")] = "",
    recipe: Annotated[str, typer.Option(help="Recipe name or .toml path.")] = "small",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a recipe key, e.g. --set lr=1e-3.")
    ] = None,
    fractions: Annotated[
        list[float] | None, typer.Option("--fraction", help="Only this one; several times.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of a run.")] = 300,
    split: Annotated[str, typer.Option(help="What is scored.")] = "val",
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Of the parts and of training; several times."),
    ] = None,
) -> None:
    """Train and score what is missing and print the table."""
    configure_logging(quiet=True)
    local = str(Path(lm).absolute()) if Path(lm).is_dir() else lm
    alike = Alike(recipe, (*(changes or []), *([f"lm='{local}'"] * bool(lm))), steps, split)
    jobs = [
        Job(store, fraction, blind, seed)
        for seed in seeds or [0]
        for store in features
        for fraction in fractions or FRACTIONS
        for blind in (False, True)
    ]
    found = [run(job, alike, job.folder(out)) for job in jobs]
    publish_grid(rows(jobs, found), commits=f"commit {commit()}")


if __name__ == "__main__":
    typer.run(main)
