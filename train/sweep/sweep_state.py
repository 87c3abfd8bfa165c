"""What a sweep has done so far, so that a killed one resumes: progress.json in its folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from epalm.atomic_write import write_file
from epalm.errors import DataError, RunFolderError
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RECIPE_FILE
from epalm.train.run_files.run_folder import writes_named
from epalm.untrusted.checked_json import build, read_json

STATE_FILE = "progress.json"

MEMBERS = "members"
"""Folder of the run folders of all members."""


@dataclass
class SweepState:
    """Progress of a sweep.

    Attributes:
        rungs: member -> step of a rung, as text -> figures of its validation there.
        finished: members that were trained to their end, in this order.
    """

    rungs: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    finished: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write the file atomically.

        Raises:
            RunFolderError: it cannot be written.
        """
        with writes_named(folder):
            write_file(folder / STATE_FILE, json.dumps(asdict(self), indent=1) + "\n")

    def figures(self, name: str, step: int) -> Mapping[str, float] | None:
        """The member's figures at a rung, None if it has not reached it."""
        return self.rungs.get(name, {}).get(str(step))

    def note(self, name: str, step: int, figures: Mapping[str, float]) -> None:
        """Keep the member's figures at a rung."""
        self.rungs.setdefault(name, {})[str(step)] = dict(figures)

    def forget(self, name: str) -> None:
        """Discard what is known about a member, whose run starts over."""
        self.rungs.pop(name, None)
        self.finished = tuple(other for other in self.finished if other != name)


def load_sweep_state(folder: Path) -> SweepState:
    """The progress of the sweep in a folder; members whose run folder is gone start over.

    Raises:
        RunFolderError: the file is damaged.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        return SweepState()
    try:
        state = build(SweepState, read_json(file), str(file))
    except DataError as error:
        raise RunFolderError(
            f"{folder} cannot be resumed ({error}): put back a copy of the file, or start over "
            "with --fresh"
        ) from error
    for name in {*state.rungs, *state.finished}:
        run = folder / MEMBERS / name
        wanted = [RECIPE_FILE] + [ADAPTER_FILE] * (name in state.finished)
        if not all((run / file).is_file() for file in wanted):
            state.forget(name)
    return state
