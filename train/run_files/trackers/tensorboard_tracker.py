"""TensorBoard: event files in the folder `tensorboard` of the run."""

from collections.abc import Mapping, Sequence

from epalm.train.run_files.trackers.tracker import ShownPrediction, TrackedRun, markdown_table

FOLDER = "tensorboard"


class TensorBoardTracker:
    """Writes event files; events after the step that a run resumes from are purged."""

    def __init__(self, run: TrackedRun) -> None:
        """Open a new event file; a new run also gets its settings as a text."""
        from torch.utils.tensorboard import SummaryWriter

        purge = run.step + 1 if run.step else None
        self._writer = SummaryWriter(str(run.folder / FOLDER), purge_step=purge)
        if not run.step:
            rows = [f"| {name} | {value} |" for name, value in run.settings.items()]
            self._writer.add_text("settings", "\n".join(["| | |", "|---|---|", *rows]), 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def show(self, predictions: Sequence[ShownPrediction], step: int) -> None:
        """Add a table of the texts, and the samples as images of the same order."""
        import numpy as np

        self._writer.add_text("predictions", markdown_table(predictions), step)
        for number, shown in enumerate(predictions, 1):
            if shown.image is not None:
                pixels = np.asarray(shown.image)
                self._writer.add_image(f"predictions/{number}", pixels, step, dataformats="HWC")
        self._writer.flush()

    def finish(self) -> None:
        """Write what is left."""
        self._writer.close()
