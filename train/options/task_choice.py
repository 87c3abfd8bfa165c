"""Which task a command is about, and where its files are."""

from pathlib import Path

from epalm.cache.spec import StoreSpec
from epalm.errors import UsageError
from epalm.tasks.task_registry import load_task, resolve_data_root
from epalm.tasks.types import Task


def choose_task(name: str, spec: StoreSpec, data_root: Path | None) -> tuple[Task, Path]:
    """The named task, or else the first task of the store's dataset, and the root of its files.

    Raises:
        UsageError: no task is named and the store records none, or the name is unknown.
        MissingFileError: the files are not in the data root.
    """
    if not name and not spec.tasks:
        raise UsageError(f"the store names no task over {spec.dataset}: give --task")
    chosen = name or spec.tasks[0]
    root = resolve_data_root(data_root, recorded=spec.data_root, task=chosen)
    return load_task(chosen, root), root
