"""Do the method variants rank as in the paper, and how much do the images contribute?

    OMP_NUM_THREADS=1 python -m bench.variants --features cache/daquar_vitti16.zarr \
        --features cache/flickr8k_vitti16.zarr --lm ../shared/models/opt-mini --out variants.jsonl

Every variant is trained in the same way, and again on the features of other samples as a blind
control. Each finished run is a line of --out; re-run the same command to resume.
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
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import Recipe, load_recipe
from epalm.train.options.train_config import DataConfig, ModelConfig, RuntimeConfig
from epalm.train.run_training import train

REPEATED_CONTROL = "full"
"""Variant whose blind control is trained with every seed; the others' only with the first."""

PLAIN_PROMPTS = ("pt-light", "full-light", "promptfuse", "deep-prompt", "l19-31+deep-prompt")

OWN_CHANGES = dict.fromkeys(PLAIN_PROMPTS, ("lr=3e-2",)) | {
    "finetune-lm": ("lm_precision='fp32'", "lm_lr=1e-3")
}
"""Recipe changes of variants that hardly train with the common settings, chosen by the loss on
DAQUAR's training questions: docs/explanation/benchmarks.md has the figures. Prompt tokens
without an MLP change slowly, and in bf16 the updates of a language model would be rounded
to zero."""


@dataclass(frozen=True)
class Job:
    """One run to train: a variant on the store at a path or URL."""

    features: str
    variant: str
    seed: int
    blind: bool


@dataclass(frozen=True)
class SharedSettings:
    """Settings of all runs.

    Attributes:
        recipe: name or path of the recipe.
        changes: changes of recipe keys, `key=value`.
        steps: number of optimizer steps.
        asked: number of evaluated validation examples, the same for all runs.
    """

    recipe: str
    changes: tuple[str, ...]
    steps: int
    asked: int


@dataclass(frozen=True)
class FinishedRun:
    """A line of the output file: settings of a run, and its score after the last step.

    Attributes:
        dataset: name of the store's dataset.
        variant: key of `VARIANTS`.
        seed: random seed of the training examples and of training.
        blind: whether the run used the features of other samples.
        metric: name of the metric.
        score: score by this metric.
        trained: number of trainable parameters.
        frozen: number of parameters of the language model.
        loss: training loss of the last logged steps.
        lr: learning rate of the connectors.
        seconds: duration of the run.
        alike: settings of all runs.
        commit: commit of the code that trained it.
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
    alike: SharedSettings
    commit: str

    @classmethod
    def read(cls, file: Path) -> list["FinishedRun"]:
        """All runs in a file; none if it does not exist."""
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        runs = []
        for fields in map(json.loads, lines):
            alike = fields.pop("alike")
            alike["changes"] = tuple(alike["changes"])
            runs.append(cls(**fields, alike=SharedSettings(**alike)))
        return runs


def all_jobs(stores: Mapping[str, StoreSpec], variants: Sequence[str], seeds: int) -> Iterator[Job]:
    """All runs: first seed 0, then its blind controls, then other seeds.

    Args:
        stores: path or URL -> specification; stores of all tokens are for variants that read them.
        variants: names of the variants.
        seeds: number of seeds per variant.
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
    """The task with `train` random training examples, repeated if it has fewer.

    The `val` validation examples do not depend on the seed.
    """

    def examples(split: str, root: Path) -> list[Example]:
        every = task.examples(split, root)
        if split == task.train_split:
            order = np.random.default_rng(seed).permutation(len(every))
            return [every[index] for index in np.resize(order, train)]
        order = np.random.default_rng(0).permutation(len(every))[:val]
        return [every[index] for index in sorted(order)]

    return replace(task, examples=examples)


def recipe_for(variant: str, alike: SharedSettings) -> Recipe:
    """Recipe of a variant: the shared settings with the variant's `OWN_CHANGES`."""
    own = OWN_CHANGES.get(variant, ())
    changes = [*parse_changes((*alike.changes, *own)), ("variant", variant), ("epochs", 1)]
    return load_recipe(alike.recipe, changes)


def run(job: Job, alike: SharedSettings, folder: Path) -> FinishedRun:
    """Train and evaluate one run.

    Args:
        job: the run.
        alike: settings of all runs.
        folder: folder of the run, which must not exist.
    """
    started = time.monotonic()
    spec = Store.open(job.features).spec
    root = resolve_data_root(None, recorded=spec.data_root, task=spec.tasks[0])
    recipe = recipe_for(job.variant, alike)
    task = load_task(spec.tasks[0], root)
    drawn = alike.steps * recipe.batch_size
    record = train(
        DataConfig(
            job.features,
            sampled(task, train=drawn, val=alike.asked, seed=job.seed),
            root,
            blind=job.blind,
        ),
        ModelConfig(recipe, alike.recipe, job.seed),
        RuntimeConfig(folder, quiet=True),
    )
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    last = {line["kind"]: line for line in lines}
    steps, scores = last["train"], last["val"]
    metric = next(name for name in scores if name not in ("kind", "step", "epoch"))
    return FinishedRun(
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


def table(lines: Sequence[FinishedRun]) -> list[list[str]]:
    """Header, then one row per variant: trainable parameters, and three cells per dataset."""
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


def _cells(lines: Sequence[FinishedRun]) -> list[str]:
    """Score, blind control and difference, x 100."""
    seeing = [100 * line.score for line in lines if not line.blind]
    blind = [100 * line.score for line in lines if line.blind]
    difference = f"{np.mean(seeing) - np.mean(blind):+.1f}" if seeing and blind else ""
    return [spread(seeing), spread(blind), difference]


def publish(lines: Sequence[FinishedRun]) -> None:
    """Print the table, also as Markdown."""
    seconds = sorted(line.seconds for line in lines)
    note = f"{len(lines)} runs, {np.median(seconds):.0f} s each (median)"
    commits = ", ".join(sorted({line.commit for line in lines}))
    publish_grid(table(lines), commits=f"commits {commits}", note=note)


def main(
    features: Annotated[list[str], typer.Option(help="Path or URL of a store; repeatable.")],
    out: Annotated[Path, typer.Option(help="Output file, one line per run.", dir_okay=False)],
    lm: Annotated[str, typer.Option(help="OPT by hub id or local folder.")] = "",
    recipe: Annotated[str, typer.Option(help="Recipe name or .toml path.")] = "small",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a recipe key, e.g. --set lr=1e-3.")
    ] = None,
    variants: Annotated[
        list[str] | None, typer.Option("--variant", help="Train only this variant; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Seeds per variant; 0: print only.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps per run.")] = 200,
    asked: Annotated[int, typer.Option(min=1, help="Number of validation examples.")] = 500,
) -> None:
    """Train missing runs and print the table."""
    configure_logging(quiet=True)
    names = [name for name in variants or VARIANTS if find_variant(name)]
    local = str(Path(lm).absolute()) if Path(lm).is_dir() else lm
    alike = SharedSettings(
        recipe, (*(changes or []), *([f"lm='{local}'"] * bool(lm))), steps, asked
    )
    saved = [line for line in FinishedRun.read(out) if line.variant in names]
    lines = [line for line in saved if _current(line, alike)]
    done = {(line.dataset, line.variant, line.seed, line.blind) for line in lines}
    stores = {name: Store.open(name).spec for name in features}
    for job in all_jobs(stores, names, seeds):
        if (stores[job.features].dataset, job.variant, job.seed, job.blind) in done:
            continue
        with TemporaryDirectory(prefix="epalm-bench-", dir=out.parent) as folder:
            line = run(job, alike, Path(folder) / "run")
        lines.append(line)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")
    publish(lines)


def _current(line: FinishedRun, alike: SharedSettings) -> bool:
    """Whether a saved run has the current settings."""
    return line.alike == alike and line.lr == recipe_for(line.variant, alike).lr


if __name__ == "__main__":
    typer.run(main)
