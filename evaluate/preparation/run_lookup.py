"""Run folders and evaluations by the names that the command line gives them."""

from pathlib import Path

from epalm.errors import MissingFileError
from epalm.evaluate.scores.eval_results import summary_file
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RECORD_FILE

SHOWN_RUNS = 5
"""Number of runs that the error about a run that does not exist names."""

Named = tuple[Path, Path | None]
"""A run's folder, and that of one of its evaluations where that was named."""


def find_run(runs: Path, name: str = "") -> Path:
    """The folder of a run.

    Args:
        runs: folder of all runs.
        name: of a run in it, or the path of one; empty for the newest that has learnt something.

    Raises:
        MissingFileError: there is no such run, or no run at all.
    """
    if name:
        folder = Path(name) if (Path(name) / RECORD_FILE).is_file() else runs / name
        if not (folder / RECORD_FILE).is_file():
            raise MissingFileError(
                f"neither {name} nor {runs / name} holds a {RECORD_FILE}: name a folder that "
                f"epalm-train made{_runs_in(runs)}"
            )
        return folder
    records = sorted(runs.glob(f"[!.]*/{RECORD_FILE}"), key=lambda file: file.stat().st_mtime)
    validated = [file.parent for file in records if (file.parent / ADAPTER_FILE).is_file()]
    if not validated:
        found = f"no run among {len(records)} that has finished an epoch" if records else "no run"
        raise MissingFileError(
            f"there is {found} in {runs.absolute()}: train one with `epalm-train`, or name the "
            "folder of one with --run"
        )
    return validated[-1]


def _runs_in(runs: Path) -> str:
    """The end of a message about a run that does not exist: the names of those in the folder."""
    names = sorted(file.parent.name for file in runs.glob(f"[!.]*/{RECORD_FILE}"))
    more = f" and {len(names) - SHOWN_RUNS} more" if len(names) > SHOWN_RUNS else ""
    return f"; {runs} has {', '.join(names[:SHOWN_RUNS])}{more}" if names else ""


def named_on_the_command_line(runs: Path, name: str) -> Named:
    """What RUN or RUN/eval/FOLDER means.

    Raises:
        MissingFileError: there is no such run.
    """
    for folder in (Path(name), runs / name):
        if folder.absolute().parent.name == "eval" and summary_file(folder).is_file():
            return find_run(runs, str(folder.absolute().parents[1])), folder
    return find_run(runs, name), None
