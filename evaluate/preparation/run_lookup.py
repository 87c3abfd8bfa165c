"""Run folders and evaluations by the names that the command line gives them."""

from pathlib import Path

from epalm.console import counted
from epalm.errors import MissingFileError
from epalm.evaluate.scores.eval_results import summary_file
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RECORD_FILE

SHOWN_RUNS = 5
"""Number of runs that the error about a run that does not exist names."""

RunOrEvaluation = tuple[Path, Path | None]
"""The folder of a run, and that of one of its evaluations if the command line names one."""


def find_run(runs: Path, name: str = "") -> Path:
    """The folder of a run.

    Args:
        runs: folder of all runs.
        name: name of a run in that folder, or path of a run; empty for the newest run that has
            finished an epoch.

    Raises:
        MissingFileError: the run does not exist, or there is none.
    """
    if name:
        folder = Path(name) if (Path(name) / RECORD_FILE).is_file() else runs / name
        if not (folder / RECORD_FILE).is_file():
            raise MissingFileError(
                f"neither {name} nor {runs / name} has a {RECORD_FILE}: give a folder that "
                f"epalm-train made{_runs_in(runs)}"
            )
        return folder
    records = sorted(runs.glob(f"[!.]*/{RECORD_FILE}"), key=lambda file: file.stat().st_mtime)
    validated = [file.parent for file in records if (file.parent / ADAPTER_FILE).is_file()]
    if not validated:
        folder = runs.absolute()
        problem = f"there is no run in {folder}"
        if records:
            problem = (
                f"none of the {counted(len(records), 'run')} in {folder} has finished an epoch"
            )
        raise MissingFileError(
            f"{problem}: train one with `epalm-train`, or give the folder of one with --run"
        )
    return validated[-1]


def _runs_in(runs: Path) -> str:
    """End of the message about a missing run: the names of the runs in the folder."""
    names = sorted(file.parent.name for file in runs.glob(f"[!.]*/{RECORD_FILE}"))
    more = f" and {len(names) - SHOWN_RUNS} more" if len(names) > SHOWN_RUNS else ""
    return f"; {runs} has {', '.join(names[:SHOWN_RUNS])}{more}" if names else ""


def find_run_or_evaluation(runs: Path, name: str) -> RunOrEvaluation:
    """The folders that RUN or RUN/eval/FOLDER names.

    Raises:
        MissingFileError: the run does not exist.
    """
    for folder in (Path(name), runs / name):
        if folder.absolute().parent.name == "eval" and summary_file(folder).is_file():
            return find_run(runs, str(folder.absolute().parents[1])), folder
    return find_run(runs, name), None
