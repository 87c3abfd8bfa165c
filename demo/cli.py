"""`epalm-demo`: the three stages on data and models that come with the package, no network."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from epalm.console import configure_logging, duration, err_console, out_console, run_app

if TYPE_CHECKING:
    from epalm.demo.stages import Contestant
    from epalm.evaluate.records import Evaluation

app = typer.Typer(add_completion=False)

TITLES = {
    "blind": "full, features of another photo (control)",
    "lin": "lin: one connector shared by all cached layers",
    "full": "full: a connector per cached layer, soft prompt",
}
"""What a run is called in the table, by the name of its folder."""


@app.command()
def command(
    out: Annotated[Path, typer.Option(help="Folder for scenes, features, runs and report.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Of scenes and training.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Results and errors only.")] = False,
) -> None:
    """Draw scenes, cache their features, teach a frozen language model to answer about them.

    Everything is made anew at each call; it takes a few minutes on two cores.
    """
    configure_logging(quiet=quiet)
    import torch

    from epalm.demo import stages
    from epalm.demo.dataset import Sizes

    torch.set_num_threads(1)  # tensors this small make threads wait for each other
    started = time.monotonic()
    place = stages.Place(out, seed, quiet=quiet)
    questions = stages.draw_scenes(place, Sizes())
    _note(f"drew scenes with {questions} questions: {place.scenes}", quiet=quiet)
    photos = stages.extract_features(place)
    _note(f"encoded {photos} photos once: {place.store}", quiet=quiet)
    shares, evaluations = [], []
    for contestant in stages.CONTESTANTS:
        shares.append(stages.train_run(place, contestant))
        evaluations.append(stages.evaluate_run(place, contestant))
    stages.write_page(place, tuple(evaluations))
    out_console.print(comparison(stages.CONTESTANTS, shares, evaluations))
    _say(f"{duration(time.monotonic() - started)}; open {place.page} for every answer")


def comparison(
    contestants: "tuple[Contestant, ...]",
    shares: list[float],
    evaluations: "list[Evaluation]",
) -> Table:
    """The runs side by side.

    Args:
        contestants: the rows.
        shares: trained share of all parameters but the encoder's, per row.
        evaluations: scores per row.
    """
    from epalm.evaluate.report import interval, percent

    table = Table(title=f"accuracy x 100 on {len(evaluations[0].answered)} test questions")
    table.add_column("run")
    table.add_column("trained", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    for contestant, share, evaluation in zip(contestants, shares, evaluations, strict=True):
        score = evaluation.scores[evaluation.headline]
        table.add_row(
            TITLES[contestant.name],
            f"{100 * share:.2f} %",
            percent(score.value),
            interval(score),
            style="bold" if contestant.name == "full" else "",
        )
    return table


def _note(line: str, *, quiet: bool) -> None:
    if not quiet:
        err_console.print(line, markup=False, highlight=False, soft_wrap=True)


def _say(line: str) -> None:
    out_console.print(line, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of `epalm-demo`."""
    run_app(app)
