"""How good are models trained on 1 % and 10 % of the examples, compared with a blind control?

    OMP_NUM_THREADS=1 python -m bench.low_data --features cache/daquar_vitti16.zarr \
        --features cache/flickr8k_vitti16.zarr --lm opt-mini --seed 0 --seed 1 --out runs/low-data

Every run takes the same number of optimizer steps, so that a smaller subset is repeated more often.
Finished runs are kept: re-run the same command to resume.
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
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.run_evaluation import evaluate
from epalm.evaluate.scores.eval_results import Evaluation, read_evaluation
from epalm.tasks.task_registry import load_task, resolve_data_root
from epalm.tasks.types import Example, Task
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import load_recipe
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.run_training import train

FRACTIONS = (0.01, 0.1, 1.0)
"""Fractions of the training examples."""

VALIDATED = 16
"""Number of validation examples after the only epoch of a run; nothing is selected by them."""


@dataclass(frozen=True)
class Job:
    """One run: a subset of the examples of a store, with its own features or as a blind control.

    Attributes:
        features: path or URL of the store.
        fraction: fraction of the training examples.
        blind: train and evaluate on the features of other samples.
        seed: random seed of the subset and of training.
    """

    features: str
    fraction: float
    blind: bool
    seed: int

    def folder(self, out: Path) -> Path:
        """Folder of the run; reports recognize a blind control by its name."""
        name = Store.open(self.features).spec.dataset
        part = f"{name}-{100 * self.fraction:g}pc-seed{self.seed}"
        return out / f"{part}{'_blind' if self.blind else ''}"


@dataclass(frozen=True)
class SharedSettings:
    """Settings of all runs.

    Attributes:
        recipe: name or path of the recipe.
        changes: changes of recipe keys, `key=value`.
        steps: number of optimizer steps.
        split: evaluated split.
    """

    recipe: str
    changes: tuple[str, ...]
    steps: int
    split: str


def training_subset(task: Task, fraction: float, *, drawn: int, seed: int) -> Task:
    """The task with a random subset of its training examples, repeated to `drawn` examples.

    A smaller subset is part of a larger one; validation examples are unchanged.
    """

    def examples(split: str, root: Path) -> list[Example]:
        every = task.examples(split, root)
        if split != task.train_split:
            return every
        order = np.random.default_rng(seed).permutation(len(every))
        subset = order[: max(1, round(fraction * len(every)))]
        return [every[index] for index in np.resize(subset, drawn)]

    return replace(task, examples=examples)


def run(job: Job, shared: SharedSettings, folder: Path) -> Evaluation:
    """Train and evaluate one run, unless its evaluation exists.

    Args:
        job: the run.
        shared: settings of all runs.
        folder: folder of the run.
    """
    blind = "-blind" if job.blind else ""
    scored = folder / "eval" / f"{shared.split}{blind}"
    try:
        return read_evaluation(scored)
    except MissingFileError:
        pass
    spec = Store.open(job.features).spec
    root = resolve_data_root(None, recorded=spec.data_root, task=spec.tasks[0])
    task = load_task(spec.tasks[0], root)
    own_changes = [("epochs", 1), ("val_examples", VALIDATED)]
    recipe = load_recipe(shared.recipe, [*parse_changes(shared.changes), *own_changes])
    drawn = shared.steps * recipe.batch_size
    train(
        DataConfig(
            job.features,
            training_subset(task, job.fraction, drawn=drawn, seed=job.seed),
            root,
            blind=job.blind,
        ),
        ModelConfig(recipe, shared.recipe, job.seed),
        RuntimeConfig(folder, fresh=True, quiet=True),
    )
    options = EvalOptions(
        run=str(folder), split=shared.split, blind=job.blind, device="cpu", quiet=True
    )
    return evaluate(options).evaluation


def rows(jobs: Sequence[Job], evaluations: Sequence[Evaluation]) -> list[list[str]]:
    """Header, then one row per dataset and fraction: scores x 100 of runs and blind controls."""
    head = ["set", "metric", "training examples", "full", "blind control"]
    cells: dict[tuple[str, str, str], tuple[list[float], list[float]]] = {}
    for job, evaluation in zip(jobs, evaluations, strict=True):
        name = Store.open(job.features).spec.dataset
        row = (name, evaluation.headline.replace("_", " "), f"{100 * job.fraction:g} %")
        scores = cells.setdefault(row, ([], []))
        scores[job.blind].append(100 * evaluation.scores[evaluation.headline].value)
    return [head, *([*row, *map(spread, scores)] for row, scores in cells.items())]


def main(
    features: Annotated[list[str], typer.Option(help="Path or URL of a store; repeatable.")],
    out: Annotated[Path, typer.Option(help="Output folder of the runs.")],
    lm: Annotated[str, typer.Option(help="OPT by hub id or local folder.")] = "",
    recipe: Annotated[str, typer.Option(help="Recipe name or .toml path.")] = "small",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a recipe key, e.g. --set lr=1e-3.")
    ] = None,
    fractions: Annotated[
        list[float] | None, typer.Option("--fraction", help="Run only this fraction; repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps per run.")] = 300,
    split: Annotated[str, typer.Option(help="Evaluated split.")] = "val",
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Random seed of subset and training; repeatable."),
    ] = None,
) -> None:
    """Train and evaluate missing runs and print the table."""
    configure_logging(quiet=True)
    local = str(Path(lm).absolute()) if Path(lm).is_dir() else lm
    shared = SharedSettings(
        recipe, (*(changes or []), *([f"lm='{local}'"] * bool(lm))), steps, split
    )
    jobs = [
        Job(store, fraction, blind, seed)
        for seed in seeds or [0]
        for store in features
        for fraction in fractions or FRACTIONS
        for blind in (False, True)
    ]
    evaluations = [run(job, shared, job.folder(out)) for job in jobs]
    publish_grid(rows(jobs, evaluations), commits=f"commit {commit()}")


if __name__ == "__main__":
    typer.run(main)
