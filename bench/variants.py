"""Do the published variants keep the paper's order on real data, and what does the picture add?

    OMP_NUM_THREADS=1 python -m bench.variants --features cache/daquar_vitti16.zarr \
        --features cache/flickr8k_vitti16.zarr --lm ../shared/models/opt-mini --out variants.jsonl

Trains every variant alike, on the features of the right media and, as a control, of others (blind).
Each finished run is a line of --out; the same command goes on behind the last one.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from bench.support.score_grid import publish_grid, spread
from bench.support.timed_rounds import commit
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import configure_logging
from epalm.model.method.variants import VARIANTS, find_variant
from epalm.tasks.task_registry import load_task, resolve_data_root
from epalm.tasks.types import Example, Task
from epalm.train.config.recipe import Recipe, load_recipe
from epalm.train.config.train_config import TrainConfig
from epalm.train.run_training import train

REPEATED_CONTROL = "full"
"""The variant whose blind control is trained with every seed; the others' with the first only."""

PLAIN_PROMPTS = ("pt-light", "full-light", "promptfuse", "deep-prompt", "l19-31+deep-prompt")

OWN_CHANGES = dict.fromkeys(PLAIN_PROMPTS, ("lr=3e-2",)) | {
    "finetune-lm": ("lm_precision='fp32'", "lm_lr=1e-3")
}
"""What variants need that hardly learn as the others do, found by the loss on DAQUAR's training
questions: docs/benchmarks.md has the figures. Random prompt vectors without an MLP move slowly, and
bf16 would round a language model's steps away."""


@dataclass(frozen=True)
class Job:
    """One run to make: a variant on the store at a path or URL."""

    features: str
    variant: str
    seed: int
    blind: bool


@dataclass(frozen=True)
class Alike:
    """What all runs have in common.

    Attributes:
        recipe: name or path.
        changes: `key=value`, of the recipe.
        steps: optimiser steps of training.
        asked: examples of the validation split that are scored, the same for all runs.
    """

    recipe: str
    changes: tuple[str, ...]
    steps: int
    asked: int


@dataclass(frozen=True)
class Finished:
    """A line of the file: what was trained, how, and what it scored behind the last step.

    Attributes:
        dataset: the store's.
        variant: a name of `VARIANTS`.
        seed: of everything random, and of the training examples drawn.
        blind: whether it saw the features of other media.
        metric: what `score` is.
        score: as the metric gives it.
        trained: parameters.
        frozen: parameters of the language model.
        loss: of the last logged steps of training.
        lr: learning rate of connectors.
        seconds: of the whole run.
        alike: see `Alike`.
        commit: of the tree that trained it.
    """

    dataset: str
    variant: str
    seed: int
    blind: bool
    metric: str
    score: float
    trained: int
    frozen: int
    loss: float
    lr: float
    seconds: float
    alike: Alike
    commit: str

    @classmethod
    def read(cls, file: Path) -> list["Finished"]:
        """All lines of a file; none where it does not exist yet."""
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        found = []
        for fields in map(json.loads, lines):
            alike = fields.pop("alike")
            alike["changes"] = tuple(alike["changes"])
            found.append(cls(**fields, alike=Alike(**alike)))
        return found


def jobs(stores: Mapping[str, StoreSpec], variants: Sequence[str], seeds: int) -> Iterator[Job]:
    """Every run, in an order whose beginnings make a table: seed 0, its controls, other seeds.

    Args:
        stores: path or URL -> what is there; those of all tokens are for variants that read them.
        variants: names.
        seeds: of every variant.
    """
    for seed in range(seeds):
        for blind in (False, True):
            for variant in variants:
                if not blind or seed == 0 or variant == REPEATED_CONTROL:
                    every = find_variant(variant).features == "tokens"
                    fitting = [
                        name for name, spec in stores.items() if every == (spec.positions > 1)
                    ]
                    yield from (Job(store, variant, seed, blind) for store in fitting)


def sampled(task: Task, *, train: int, val: int, seed: int) -> Task:
    """The task over `train` random training examples, again and again if it has fewer.

    And over `val` validation examples that do not depend on the seed.
    """

    def examples(split: str, root: Path) -> list[Example]:
        found = task.examples(split, root)
        if split == task.train_split:
            order = np.random.default_rng(seed).permutation(len(found))
            return [found[place] for place in np.resize(order, train)]
        order = np.random.default_rng(0).permutation(len(found))[:val]
        return [found[place] for place in sorted(order)]

    return replace(task, examples=examples)


def recipe_of(variant: str, alike: Alike) -> Recipe:
    """How a variant is trained: as all others, but for what `OWN_CHANGES` says of it."""
    own = OWN_CHANGES.get(variant, ())
    return load_recipe(alike.recipe, [*alike.changes, *own, f"variant='{variant}'", "epochs=1"])


def run(job: Job, alike: Alike, folder: Path) -> Finished:
    """Train and score.

    Args:
        job: what.
        alike: how.
        folder: of the run; must not exist yet.
    """
    started = time.monotonic()
    spec = Store.open(job.features).spec
    root = resolve_data_root(None, recorded=spec.data_root, task=spec.tasks[0])
    recipe = recipe_of(job.variant, alike)
    task = load_task(spec.tasks[0], root)
    drawn = alike.steps * recipe.batch_size
    record = train(
        TrainConfig(
            folder=folder,
            task=sampled(task, train=drawn, val=alike.asked, seed=job.seed),
            data_root=root,
            features=job.features,
            recipe=recipe,
            recipe_name=alike.recipe,
            seed=job.seed,
            blind=job.blind,
            quiet=True,
        )
    )
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    last = {line["kind"]: line for line in lines}
    steps, scores = last["train"], last["val"]
    metric = next(name for name in scores if name not in ("kind", "step", "epoch"))
    return Finished(
        dataset=spec.dataset,
        variant=job.variant,
        seed=job.seed,
        blind=job.blind,
        metric=metric,
        score=scores[metric],
        trained=record.trained,
        frozen=record.frozen,
        loss=steps["loss"],
        lr=recipe.lr,
        seconds=round(time.monotonic() - started, 1),
        alike=alike,
        commit=commit(),
    )


def table(lines: Sequence[Finished]) -> list[list[str]]:
    """Head and one row per variant: what it trains, and three cells for each set of media."""
    sets = sorted({(line.dataset, line.metric) for line in lines})
    head = ["variant", "trained", "%"]
    for dataset, metric in sets:
        head += [f"{dataset}, {metric}", "blind", "difference"]
    rows = [head]
    for variant in VARIANTS:
        mine = [line for line in lines if line.variant == variant]
        if mine:
            share = 100 * mine[0].trained / (mine[0].trained + mine[0].frozen)
            cells = [variant, f"{mine[0].trained:,}", f"{share:.2f}"]
            for dataset, _ in sets:
                cells += _cells([line for line in mine if line.dataset == dataset])
            rows.append(cells)
    return rows


def _cells(lines: Sequence[Finished]) -> list[str]:
    """Score, blind control and difference, x 100."""
    seeing = [100 * line.score for line in lines if not line.blind]
    blind = [100 * line.score for line in lines if line.blind]
    difference = f"{np.mean(seeing) - np.mean(blind):+.1f}" if seeing and blind else ""
    return [spread(seeing), spread(blind), difference]


def publish(lines: Sequence[Finished]) -> None:
    """Print the table for people, and the same in Markdown."""
    seconds = sorted(line.seconds for line in lines)
    note = f"{len(lines)} runs, {np.median(seconds):.0f} s each (median)"
    commits = ", ".join(sorted({line.commit for line in lines}))
    publish_grid(table(lines), commits=f"commits {commits}", note=note)


def main(
    features: Annotated[list[str], typer.Option(help="Path or URL of a store; several times.")],
    out: Annotated[Path, typer.Option(help="Finished runs, one line each.", dir_okay=False)],
    lm: Annotated[str, typer.Option(help="OPT by hub id or local folder.")] = "",
    recipe: Annotated[str, typer.Option(help="Recipe name or .toml path.")] = "small",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a recipe key, e.g. --set lr=1e-3.")
    ] = None,
    variants: Annotated[
        list[str] | None, typer.Option("--variant", help="Only this one; several times.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Runs of each variant; 0: only the table.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of a run.")] = 200,
    asked: Annotated[int, typer.Option(min=1, help="Validation examples.")] = 500,
) -> None:
    """Train what is missing and print the table."""
    configure_logging(quiet=True)
    names = [name for name in variants or VARIANTS if find_variant(name)]
    local = str(Path(lm).absolute()) if Path(lm).is_dir() else lm
    alike = Alike(recipe, (*(changes or []), *([f"lm='{local}'"] * bool(lm))), steps, asked)
    found = [line for line in Finished.read(out) if line.variant in names]
    lines = [line for line in found if _current(line, alike)]
    done = {(line.dataset, line.variant, line.seed, line.blind) for line in lines}
    stores = {name: Store.open(name).spec for name in features}
    for job in jobs(stores, names, seeds):
        if (stores[job.features].dataset, job.variant, job.seed, job.blind) in done:
            continue
        with TemporaryDirectory(prefix="epalm-bench-", dir=out.parent) as folder:
            line = run(job, alike, Path(folder) / "run")
        lines.append(line)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")
    publish(lines)


def _current(line: Finished, alike: Alike) -> bool:
    """Whether a line of the file is a run of this table."""
    return line.alike == alike and line.lr == recipe_of(line.variant, alike).lr


if __name__ == "__main__":
    typer.run(main)
