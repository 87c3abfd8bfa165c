"""What does a sweep of 8 adapters with successive halving cost and find, against 8 commands?

    OMP_NUM_THREADS=1 python -m bench.sweep --features cache/flickr8k_vitti16.zarr \
        --lm ../shared/models/opt-mini --out sweep-of-8

Eight combinations of variant and learning rate are trained by one `epalm-train` for each, by
`epalm-train sweep` with halving and, with --whole, by a sweep of all of them to their end. Each
command is a process of its own, whose CPU time and peak memory are a line of OUT/commands.jsonl;
re-run the same command to resume.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from bench.support.timed_rounds import JsonFile, Line, Result, at_most
from epalm.model.checkpoints.run_record import METRICS_FILE
from epalm.train.sweep.validation_lines import best_validation, read_validations

VARIANTS = ("full", "late-ada")
RATES = (1e-3, 3e-3, 1e-2, 3e-2)

SETTINGS = tuple(product(VARIANTS, RATES))
"""The eight members."""

CPU_LIMIT, MEMORY_LIMIT, GAP_LIMIT = 0.5, 1.2, 0.03
"""Targets: CPU time of the sweep with halving over that of 8 commands, its peak memory over that of
the largest command, and how much less the score of its best member may be."""

SMALLER_IS_BETTER = "loss"

COMMANDS_FILE = "commands.jsonl"


@dataclass(frozen=True)
class Usage:
    """Resources of a finished command.

    Attributes:
        name: name of the command.
        cpu: CPU seconds of all its threads, user and system.
        peak: peak resident memory in bytes.
    """

    name: str
    cpu: float
    peak: int


@dataclass(frozen=True)
class Plan:
    """The commands of a benchmark.

    Attributes:
        out: folder of all runs.
        base: settings of all members, as in a sweep file.
        halving: table [halving] of the sweep.
    """

    out: Path
    base: Mapping[str, Any]
    halving: Mapping[str, Any]

    def single(self, variant: str, rate: float) -> list[str]:
        """Arguments of one ordinary training."""
        base = dict(self.base)
        options = [f"--{name}={base.pop(name)}" for name in ("features", "lm", "recipe")]
        changes = [f"--set={key}={value}" for key, value in {**base, "lr": rate}.items()]
        return [*options, f"--variant={variant}", *changes, f"--name={label(variant, rate)}"]

    def sweep(self, name: str) -> list[str]:
        """Arguments of a sweep; its file is written to the folder."""
        halving = {"halving": dict(self.halving)} if name == "halved" else {}
        grid = {"variant": list(VARIANTS), "lr": list(RATES)}
        file = self.out / f"{name}.toml"
        file.write_text(tomli_w.dumps({**self.base, "grid": grid, **halving}))
        return ["sweep", str(file)]

    def commands(self, *, whole: bool) -> dict[str, list[str]]:
        """Name and arguments of every command."""
        singles = {label(*one): self.single(*one) for one in SETTINGS}
        sweeps = {name: self.sweep(name) for name in ("halved", *["whole"] * whole)}
        return {**singles, **sweeps}


def label(variant: str, rate: float) -> str:
    """Name of a run."""
    return f"{variant}-{rate:g}"


def measured(plan: Plan, *, whole: bool) -> dict[str, Usage]:
    """Run the commands that have no line in the file yet; resources of all by name."""
    plan.out.mkdir(parents=True, exist_ok=True)
    file = plan.out / COMMANDS_FILE
    lines = file.read_text().splitlines() if file.is_file() else []
    usages = {usage.name: usage for usage in (Usage(**json.loads(line)) for line in lines)}
    for name, arguments in plan.commands(whole=whole).items():
        if name not in usages:
            usages[name] = run(name, arguments, plan.out)
            with file.open("a") as log:
                log.write(json.dumps(asdict(usages[name])) + "\n")
    return usages


def run(name: str, arguments: Sequence[str], out: Path) -> Usage:
    """Run `epalm-train` in a new process.

    Raises:
        subprocess.CalledProcessError: it failed; its messages are in OUT/logs.
    """
    runs = ["--out", str(out / "runs"), "--device", "cpu", "--fresh", "--quiet"]
    command = [sys.executable, "-m", "epalm.train.cli", *arguments, *runs]
    (out / "logs").mkdir(exist_ok=True)
    with (out / "logs" / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(code, command)
    return Usage(name, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss)


def best_figures(runs: Path) -> tuple[str, dict[str, Mapping[str, float]]]:
    """Name of the figure that selects epochs, and the best validation of every run."""
    figures = {}
    for folder in sorted(runs.iterdir()):
        best = best_validation(read_validations(folder / METRICS_FILE))
        if best is not None:
            figures[folder.name] = best.figures
    return next(iter(next(iter(figures.values())))), figures


def gaps(plan: Plan) -> list[Line]:
    """How much worse the sweep's best member is than the best of 8 full runs, by score and loss."""
    runs = plan.out / "runs"
    headline, figures = best_figures(runs)
    result = json.loads((runs / "halved" / "sweep.json").read_text())
    found = next(one for one in result["members"] if one["name"] == result["best"])["figures"]
    lines = []
    for name in dict.fromkeys((headline, SMALLER_IS_BETTER)):
        if name not in found:
            continue
        values = [one[name] for one in figures.values()]
        sign = -1 if name == SMALLER_IS_BETTER else 1
        best = max(values, key=lambda value: sign * value)
        gap = sign * (best - found[name]) / abs(best) if best else 0.0
        lines += [
            Line(f"{name} of the best of 8 full runs", best, ""),
            Line(f"{name} of the sweep's best member", found[name], ""),
        ]
        wanted = at_most(f"{name}: fraction that it is worse", gap, "", limit=GAP_LIMIT)
        lines.append(wanted if name == headline else Line(wanted.what, gap, ""))
    return lines


def resources(usages: Mapping[str, Usage], *, whole: bool) -> list[Line]:
    """CPU time and memory of the sweeps, relative to 8 commands and to the largest of them."""
    singles = [usages[label(*one)] for one in SETTINGS]
    cpu, peak = sum(one.cpu for one in singles), max(one.peak for one in singles)
    halved = usages["halved"]
    lines = [
        Line("8 commands: CPU time", cpu, "s"),
        Line("the largest command: peak memory", peak / 1e6, "MB"),
        at_most("sweep with halving: CPU time, ratio", halved.cpu / cpu, "", limit=CPU_LIMIT),
        at_most("sweep with halving: memory, ratio", halved.peak / peak, "", limit=MEMORY_LIMIT),
    ]
    if whole:
        every = usages["whole"]
        lines.append(Line("sweep of all to their end: CPU time, ratio", every.cpu / cpu, ""))
        memory = every.peak / peak
        lines.append(
            at_most("sweep of all to their end: memory, ratio", memory, "", limit=MEMORY_LIMIT)
        )
    return lines


def main(
    features: Annotated[str, typer.Option(help="Path or URL of a store.")],
    lm: Annotated[str, typer.Option(help="Language model: hub id or local folder.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs.")],
    recipe: Annotated[str, typer.Option(help="Recipe name or .toml path.")] = "small",
    train_examples: Annotated[int, typer.Option(min=1, help="Training examples per epoch.")] = 3200,
    val_examples: Annotated[int, typer.Option(min=1, help="Validation examples.")] = 400,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a full run.")] = 6,
    rungs: Annotated[
        list[int] | None, typer.Option("--rung", help="Epochs before a rung; repeatable.")
    ] = None,
    *,
    keep: Annotated[float, typer.Option(help="Fraction of members kept at a rung.")] = 0.5,
    by: Annotated[str, typer.Option(help="Figure of the rungs; default: the score.")] = "",
    whole: Annotated[
        bool, typer.Option("--whole", help="Also run a sweep of all members to their end.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete OUT first.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Run what is missing, and print the table."""
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    local = str(Path(lm).absolute()) if Path(lm).is_dir() else lm
    store = features if "://" in features else str(Path(features).absolute())
    base = {
        **{"features": store, "lm": local, "recipe": recipe, "epochs": epochs},
        **{"train_examples": train_examples, "val_examples": val_examples},
        "batch_size": batch_size,
    }
    halving = {"rungs": rungs or [1, 2, 3], "keep": keep, "by": by}
    plan = Plan(out, base, halving)
    usages = measured(plan, whole=whole)
    lines = [*resources(usages, whole=whole), *gaps(plan)]
    Result(f"A sweep of 8 adapters over {Path(lm).name}, {epochs} epochs", lines).publish(json_file)


if __name__ == "__main__":
    typer.run(main)
