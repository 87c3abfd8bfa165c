"""trackio: a local database, or a Space with TRACKIO_SPACE_ID."""

import os
from collections.abc import Mapping, Sequence

from epalm.train.run_files.trackers.tracker import ShownPrediction, TrackedRun, markdown_table

PROJECT = "epalm"
"""Project of runs if TRACKIO_PROJECT is not set."""


class TrackioTracker:
    """Logs to a run of the package trackio, which knows runs by name alone."""

    def __init__(self, run: TrackedRun) -> None:
        """Start the run, or resume the one of the same id."""
        import trackio

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
            name=f"{run.name}-{run.id}",
            resume="allow",
            config=dict(run.settings),
            embed=False,
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add numbers."""
        self._run.log(dict(values), step=step)

    def show(self, predictions: Sequence[ShownPrediction], step: int) -> None:
        """Add a table of the texts, and the samples as images with the texts as captions."""
        import trackio

        values: dict[str, object] = {"predictions": trackio.Markdown(markdown_table(predictions))}
        for number, shown in enumerate(predictions, 1):
            if shown.image is not None:
                image = trackio.Image(shown.image, caption=shown.caption)
                values[f"predictions/{number}"] = image
        self._run.log(values, step=step)

    def finish(self) -> None:
        """Write what is left."""
        import trackio

        trackio.finish()  # else the end of the process finishes the run again, on standard output
