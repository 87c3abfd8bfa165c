"""`epalm-demo`: the three stages on generated data and small models that come with the package."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from epalm.console import configure_logging, duration, run_app, say, say_json, show_table
from epalm.options import Json, PanelCommand, Quiet, command_from, option

if TYPE_CHECKING:
    from epalm.demo.stages import DemoFolder
    from epalm.evaluate.scores.eval_results import Evaluation

logger = logging.getLogger(__name__)

EXAMPLES = (
    "epalm-demo",
    "epalm-demo --modality all --out runs/demo",
    "epalm-demo --modality audio --seed 1",
)
"""Command lines at the end of the help."""

app = typer.Typer(add_completion=False)

RUN_TITLES = {
    "blind": "blind: shuffled features",
    "lin": "lin: one shared connector",
    "full": "full: one connector per layer",
}
"""Name of a run's folder -> its title in the table. The first is the control: the connectors of
`full`, trained and tested on the features of other samples."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Options of `epalm-demo`; each `option(...)` has the help text."""

    modality: Annotated[
        Literal["image", "video", "audio", "all"],
        option(
            help="Task: image (questions about images), video (questions about videos), audio "
            "(captions of audio clips), or all three.",
            panel="Data",
        ),
    ] = "image"
    seed: Annotated[
        int,
        option(
            help="Random seed of the generated data and of training.",
            panel="Data",
            min=0,
            max=10**12,
        ),
    ] = 0
    out: Annotated[
        Path,
        option(help="Output folder of the data, features, runs and reports.", panel="Output"),
    ] = Path("runs/demo")
    as_json: Json = False
    quiet: Quiet = False


def run(options: DemoOptions) -> None:
    """Run all three stages on generated data: extract features, train and evaluate.

    Works offline and without a GPU. Overwrites the results of an earlier run in the same folder. On
    two CPU cores, image takes about a minute and a half, all three modalities about six minutes.
    """
    configure_logging(quiet=options.quiet)
    import torch

    from epalm.demo.modalities import MODALITIES
    from epalm.demo.stages import DemoFolder

    torch.set_num_threads(1)  # with tensors this small, threads only wait for each other
    started = time.monotonic()
    results = []
    for modality in MODALITIES.values():
        if options.modality in (modality.name, "all"):
            folder = DemoFolder(modality, options.out, options.seed, quiet=options.quiet)
            results.append(run_stages(folder))
            if not options.as_json:
                show_table(comparison_table(results[-1]))
    seconds = time.monotonic() - started
    if options.as_json:
        say_json({"seconds": round(seconds, 1), "modalities": list(map(result_json, results))})
        return
    reports = " ".join(str(result.folder.report) for result in results)
    say(f"{duration(seconds)}; report with every answer: {reports}")


@dataclass(frozen=True)
class DemoResult:
    """The result of one modality.

    Attributes:
        folder: output files.
        trainable_fractions: per run of `stages.RUNS`, trainable parameters as a fraction of those
            of the language model and the adapter together.
        evaluations: scores per run.
    """

    folder: "DemoFolder"
    trainable_fractions: tuple[float, ...]
    evaluations: "tuple[Evaluation, ...]"


app.command(cls=PanelCommand)(command_from(DemoOptions, run))


def run_stages(folder: "DemoFolder") -> DemoResult:
    """Run all three stages of one modality and write the report of its runs."""
    from epalm.demo import stages

    modality = folder.modality
    examples = stages.write_data(folder)
    logger.info(
        "generated %s with %d %s: %s", modality.samples, examples, modality.examples, folder.data
    )
    encoded = stages.extract_features(folder)
    logger.info("extracted features of %d %s: %s", encoded, modality.samples, folder.store)
    trainable_fractions, evaluations = [], []
    for run_spec in stages.RUNS:
        trainable_fractions.append(stages.train_run(folder, run_spec))
        evaluations.append(stages.evaluate_run(folder, run_spec))
    stages.write_report(folder, tuple(evaluations))
    return DemoResult(folder, tuple(trainable_fractions), tuple(evaluations))


def comparison_table(result: DemoResult) -> Table:
    """One row per run of `stages.RUNS`."""
    from epalm.demo.stages import RUNS
    from epalm.evaluate.report.tables import interval, label, percent

    modality, evaluations = result.folder.modality, result.evaluations
    headline, *others = modality.scores
    count = len(evaluations[0].predictions)
    table = Table(title=f"{modality.name}: scores x 100 on {count} test {modality.examples}")
    table.add_column("run")
    for column in ("trainable", label(headline), "95 % interval", *map(label, others)):
        table.add_column(column, justify="right")
    rows = zip(RUNS, result.trainable_fractions, evaluations, strict=True)
    for run_spec, fraction, evaluation in rows:
        score = evaluation.scores[headline]
        table.add_row(
            RUN_TITLES[run_spec.name],
            f"{100 * fraction:.2f} %",
            percent(score.value),
            interval(score),
            *(percent(evaluation.scores[name].value) for name in others),
            style="bold" if run_spec.name == "full" else "",
        )
    return table


def result_json(result: DemoResult) -> dict[str, object]:
    """What `epalm-demo --json` prints about one modality."""
    from epalm.demo.stages import RUNS

    rows = zip(RUNS, result.trainable_fractions, result.evaluations, strict=True)
    return {
        "modality": result.folder.modality.name,
        "report": str(result.folder.report),
        "store": str(result.folder.store),
        "runs": [
            {
                "run": str(result.folder.run(run_spec)),
                "blind": evaluation.blind,
                "trainable_fraction": fraction,
                "scores": {name: asdict(score) for name, score in evaluation.scores.items()},
            }
            for run_spec, fraction, evaluation in rows
        ],
    }


def main() -> None:
    """Entry point of `epalm-demo`."""
    run_app(app, examples=EXAMPLES)
