"""Weights & Biases, online or with WANDB_MODE=offline; WANDB_PROJECT names the project."""

import os
from collections.abc import Mapping, Sequence

from epalm.train.run_files.trackers.tracker import ShownPrediction, TrackedRun

PROJECT = "epalm"
"""Project of runs if WANDB_PROJECT is not set."""

FINISH_SECONDS = 300.0
"""Longest time that the end of a training waits for uploads; `wandb sync` sends the rest."""

STEP = "step"
"""Horizontal axis of all charts: steps that a resumed run logs again are not refused."""


class WandbTracker:
    """Logs to a run of the package wandb."""

    def __init__(self, run: TrackedRun) -> None:
        """Start the run, or resume the one of the same id."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run.name,
            id=run.id,
            resume="allow",
            config=dict(run.settings),
            settings=wandb.Settings(
                console="off",  # it would record the texts of the whole terminal
                finish_timeout=FINISH_SECONDS,
                silent=run.quiet,
            ),
        )
        self._run.define_metric("*", step_metric=STEP)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add numbers."""
        self._run.log({**values, STEP: step})

    def show(self, predictions: Sequence[ShownPrediction], step: int) -> None:
        """Add a table of the texts, and the samples as images with the texts as captions."""
        import wandb

        table = wandb.Table(columns=["question", "prediction", "references"])
        images = []
        for shown in predictions:
            table.add_data(shown.prompt, shown.prediction, "; ".join(shown.references))
            if shown.image is not None:
                images.append(wandb.Image(shown.image, caption=shown.caption))
        samples = {"predictions/samples": images} if images else {}
        self._run.log({"predictions/texts": table, **samples, STEP: step})

    def finish(self) -> None:
        """Wait for uploads, at most `FINISH_SECONDS`."""
        self._run.finish()
