"""metrics.jsonl of a run: one line per logged step and per validation."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from epalm.atomic_write import write_file
from epalm.devices import peak_device_memory
from epalm.errors import RunFolderError
from epalm.model.checkpoints.run_record import METRICS_FILE
from epalm.system_memory import peak_memory
from epalm.train.run_files.run_folder import writes_named
from epalm.train.run_files.training_checkpoint import Progress
from epalm.untrusted.quoted_values import shown

if TYPE_CHECKING:
    from epalm.train.run_files.trackers.tracking import Tracking


class MetricsLog:
    """Metrics log of a run that is being trained."""

    def __init__(
        self, folder: Path, progress: Progress, tracking: "Tracking | None" = None
    ) -> None:
        """Open the log and drop lines after the checkpoint that the run resumes from.

        Args:
            folder: run folder.
            progress: position of the checkpoint.
            tracking: tracker that gets every line, too; None for none.

        Raises:
            RunFolderError: a line is not one of this log, or the file cannot be written.
        """
        self.file = folder / METRICS_FILE
        self._tracking = tracking
        if tracking:
            tracking.resume_from(progress.step)
        if self.file.is_file():
            text = "".join(line + "\n" for line in _kept_lines(self.file, progress))
            with writes_named(folder):
                write_file(self.file, text)

    def append(self, *, kind: str, step: int, **fields: float) -> None:
        """Add a line, here and to the tracker.

        Args:
            kind: "train", "val" or "spent".
            step: optimizer steps done.
            fields: more values of the line.

        Raises:
            RunFolderError: it cannot be written.
        """
        with writes_named(self.file.parent), self.file.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"kind": kind, "step": step} | fields) + "\n")
        if self._tracking:
            self._tracking.append(kind, step, **fields)


def resource_usage(progress: Progress) -> dict[str, float]:
    """Wall time of the run so far (seconds) and peak memory of this process (bytes)."""
    return {
        "seconds": round(progress.seconds, 1),
        "memory": peak_memory(),
        "device_memory": peak_device_memory(),
    }


def _kept_lines(file: Path, progress: Progress) -> list[str]:
    try:
        *lines, last = file.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise _damaged(file, 1, str(error)) from error
    del last  # empty, or the line that was being written when the run was killed
    return [line for number, line in enumerate(lines, 1) if _before(file, number, line, progress)]


def _before(file: Path, number: int, line: str, progress: Progress) -> bool:
    try:
        fields = json.loads(line)
        if fields["kind"] == "val":
            return bool(fields["epoch"] <= progress.validated)
        return bool(fields["step"] <= progress.step)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file, number, f"found {shown(line)}") from error


def _damaged(file: Path, number: int, what: str) -> RunFolderError:
    return RunFolderError(
        f"{file}, line {number}: {what}, expected a line of the training log: remove the line to "
        "resume, or start over with --fresh"
    )
