"""What a tracker does, and the values that it gets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from epalm.model.checkpoints.run_record import RunRecord
from epalm.train.config.recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers know it.

    Attributes:
        folder: run folder.
        name: name of the run.
        id: id of the run at the tracker, the same after each resume.
        step: optimizer steps done so far; later ones are logged again.
        settings: settings of the run by name; no local paths.
        quiet: print nothing.
    """

    folder: Path
    name: str
    id: str
    step: int
    settings: Mapping[str, str | float]
    quiet: bool = False


@dataclass(frozen=True)
class ShownPrediction:
    """The prediction for one validation example.

    Attributes:
        prompt: the question; empty for captioning.
        prediction: the generated text.
        references: reference answers or captions.
        image: the sample as an image, mode RGB; None if its file does not exist.
    """

    prompt: str
    prediction: str
    references: tuple[str, ...]
    image: "Image.Image | None"

    @property
    def caption(self) -> str:
        """Question and prediction in one line."""
        return " ".join(f"{self.prompt} {self.prediction}".split())


class Tracker(Protocol):
    """An open run of a tracker; any method may raise any exception."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add numbers by name, such as "train/loss", at an optimizer step."""

    def show(self, predictions: Sequence[ShownPrediction], step: int) -> None:
        """Add predictions of the weights at an optimizer step."""

    def finish(self) -> None:
        """Write everything and close the run."""


def tracked_settings(record: RunRecord, recipe: Recipe) -> dict[str, str | float]:
    """Settings by name, those of the schedule as in "schedule.kind"; models by name, not by path.

    Args:
        record: record of the run.
        recipe: recipe of the run.
    """
    keys = asdict(recipe)
    schedule = keys.pop("schedule")
    settings = keys | {f"schedule.{name}": value for name, value in schedule.items()}
    return settings | {
        "recipe": Path(record.recipe).name,
        "lm": Path(record.model.lm).name,
        "encoder": Path(record.store["encoder"]).name,
        "dataset": record.store["dataset"],
        "task": record.task,
        "seed": record.seed,
        "blind": record.blind,
        "trained_parameters": record.trained,
    }


def markdown_table(predictions: Sequence[ShownPrediction]) -> str:
    """The texts of predictions as a Markdown table."""
    rows = [("question", "prediction", "references"), ("---", "---", "---")]
    rows += [(one.prompt, one.prediction, "; ".join(one.references)) for one in predictions]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
