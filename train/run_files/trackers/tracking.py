"""The tracker of a run that is being trained, whose failures never end the training."""

import logging
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from json import dumps
from types import TracebackType
from typing import Any, Self

from epalm.atomic_write import write_file
from epalm.errors import MalformedFileError
from epalm.train.run_files.trackers.tensorboard_tracker import TensorBoardTracker
from epalm.train.run_files.trackers.tracker import TrackedRun, Tracker
from epalm.train.run_files.trackers.trackio_tracker import TrackioTracker
from epalm.train.run_files.trackers.validation_samples import ValidationSamples
from epalm.train.run_files.trackers.wandb_tracker import WandbTracker
from epalm.untrusted.checked_json import read_json

logger = logging.getLogger(__name__)

TRACKERS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
}
"""Name on the command line -> opens the tracker. The name is that of its package and extra, too."""

ID_FILE = "tracker.json"
"""File of a run folder with the run's id at each tracker."""

ID = re.compile(r"[0-9a-z]{8}")


class Tracking:
    """Passes on what a training logs; a call that fails is counted, the first one warned about.

    Attributes:
        failures: number of failed calls.
    """

    def __init__(self, name: str, run: TrackedRun, samples: ValidationSamples) -> None:
        """Prepare; the tracker is opened by the first call.

        Args:
            name: a key of `TRACKERS`.
            run: the run; its id is that of the run folder, or a new one.
            samples: validation examples that are shown.
        """
        self.failures = 0
        self._name, self._run, self._samples = name, run, samples
        self._step = run.step
        self._tracker: Tracker | None = None

    def __enter__(self) -> Self:
        """Return the tracking itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the tracker, however the training ended, and log the number of failures."""
        if self._tracker is not None:
            self._attempt(self._tracker.finish)
        if self.failures:
            logger.warning("%s: %d calls failed", self._name, self.failures)

    def resume_from(self, step: int) -> None:
        """Set the step that the training resumes from."""
        self._run, self._step = replace(self._run, step=step), step

    def append(self, kind: str, step: int, **fields: float) -> None:
        """Log a line of metrics.jsonl, as in "train/loss"."""
        self._step = step
        values = {f"{kind}/{name}": value for name, value in fields.items()}
        self._attempt(lambda: self._opened().log(values, step))

    def show(self, texts: Sequence[str]) -> None:
        """Show some predictions.

        Args:
            texts: generated text for each validation example.
        """
        self._attempt(lambda: self._opened().show(self._samples.predictions(texts), self._step))

    def _opened(self) -> Tracker:
        if self._tracker is None:
            run = replace(self._run, id=run_id(self._run, self._name))
            self._tracker = TRACKERS[self._name](run)
        return self._tracker

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):  # results are printed to standard output
                call()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - of a library, over a network
            self.failures += 1
            if self.failures == 1:
                reason = " ".join(str(error).split()) or type(error).__name__
                logger.warning(
                    "--track %s failed (%s): training continues, metrics.jsonl has all values",
                    self._name,
                    reason,
                )


def run_id(run: TrackedRun, tracker: str) -> str:
    """The id of a run at a tracker, from the run folder; a new one is written there.

    Raises:
        MalformedFileError: the file has something else.
        OSError: the file cannot be written.
    """
    file = run.folder / ID_FILE
    ids: Any = read_json(file) if file.is_file() else {}
    if not isinstance(ids, dict):
        raise MalformedFileError(f"{file} is no JSON object: remove it")
    if tracker not in ids:
        ids[tracker] = secrets.token_hex(4)
        write_file(file, dumps(ids) + "\n")
    known = ids[tracker]
    if not (isinstance(known, str) and ID.fullmatch(known)):
        raise MalformedFileError(f"{file}: the id of {tracker} is not 8 letters or digits")
    return known
