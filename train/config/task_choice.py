"""Which task a command means, and where its files lie."""

from pathlib import Path

from epalm.cache.spec import StoreSpec
from epalm.errors import UsageError
from epalm.tasks.task_registry import load_task, resolve_data_root
from epalm.tasks.types import Task


def asked_task(task: str, spec: StoreSpec, data_root: Path | None) -> tuple[Task, Path]:
    """The task named, or the first one over the store's media, and the root of its files.

    Raises:
        UsageError: no task is named and the store knows none, or the name is unknown.
        MissingFileError: the files are not where they are looked for.
    """
    if not task and not spec.tasks:
        raise UsageError(f"the store names no task over {spec.dataset}: give --task")
    asked = task or spec.tasks[0]
    root = resolve_data_root(data_root, recorded=spec.data_root, task=asked)
    return load_task(asked, root), root
