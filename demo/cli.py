"""`epalm-demo`: the three stages on media and models that come with the package, no network."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from epalm.console import configure_logging, duration, run_app, say, show_table

if TYPE_CHECKING:
    from epalm.demo.modalities import Show
    from epalm.demo.stages import Contestant, Place
    from epalm.evaluate.scores.eval_results import Evaluation

logger = logging.getLogger(__name__)

EXAMPLES = (
    "epalm-demo",
    "epalm-demo --modality all --out runs/demo",
)
"""Command lines that the help ends with."""

app = typer.Typer(add_completion=False)

TITLES = {
    "blind": "blind: features of another",
    "lin": "lin: one connector for all",
    "full": "full: one for each layer",
}
"""What a run is called in the table, by the name of its folder. The first is the control: full's
connectors, on the features of another photo, clip or recording."""


@app.command()
def command(
    modality: Annotated[
        Literal["image", "video", "audio", "all"],
        typer.Option(
            help="What to show: questions about images or video clips, captions of audio clips, or "
            "all three."
        ),
    ] = "image",
    out: Annotated[Path, typer.Option(help="Folder for media, features, runs and reports.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[
        int, typer.Option(min=0, max=10**12, help="Random seed of data and training.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
) -> None:
    """Draw data, cache their features, and train a frozen language model to answer about them.

    Each call makes everything again. On two cores images take about a minute and a half, all
    three modalities about six minutes.
    """
    configure_logging(quiet=quiet)
    import torch

    from epalm.demo.modalities import SHOWS
    from epalm.demo.stages import Place

    torch.set_num_threads(1)  # tensors this small make threads wait for each other
    started = time.monotonic()
    pages = []
    for show in SHOWS.values():
        if modality in (show.name, "all"):
            place = Place(show, out, seed, quiet=quiet)
            show_table(run_show(place))
            pages.append(str(place.page))
    say(f"{duration(time.monotonic() - started)}; every answer: {' '.join(pages)}")


def run_show(place: "Place") -> Table:
    """All three stages of one modality; its runs side by side."""
    from epalm.demo import stages

    show = place.show
    examples = stages.draw_media(place)
    logger.info("made %s with %d %s: %s", show.media, examples, show.examples, place.data)
    media = stages.extract_features(place)
    logger.info("encoded %d %s once: %s", media, show.media, place.store)
    shares, evaluations = [], []
    for contestant in stages.CONTESTANTS:
        shares.append(stages.train_run(place, contestant))
        evaluations.append(stages.evaluate_run(place, contestant))
    stages.write_page(place, tuple(evaluations))
    return comparison(show, stages.CONTESTANTS, shares, evaluations)


def comparison(
    show: "Show",
    contestants: "tuple[Contestant, ...]",
    shares: list[float],
    evaluations: "list[Evaluation]",
) -> Table:
    """The runs side by side.

    Args:
        show: whose runs.
        contestants: the rows.
        shares: trained share of all parameters but the encoder's, per row.
        evaluations: scores per row.
    """
    from epalm.evaluate.report.tables import interval, label, percent

    headline, *others = show.scores
    count = len(evaluations[0].answered)
    table = Table(title=f"{show.name}: scores x 100 on {count} test {show.examples}")
    table.add_column("run")
    for column in ("trained", label(headline), "95 % interval", *map(label, others)):
        table.add_column(column, justify="right")
    for contestant, share, evaluation in zip(contestants, shares, evaluations, strict=True):
        score = evaluation.scores[headline]
        table.add_row(
            TITLES[contestant.name],
            f"{100 * share:.2f} %",
            percent(score.value),
            interval(score),
            *(percent(evaluation.scores[name].value) for name in others),
            style="bold" if contestant.name == "full" else "",
        )
    return table


def main() -> None:
    """Entry point of `epalm-demo`."""
    run_app(app, examples=EXAMPLES)
