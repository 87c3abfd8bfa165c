"""Sets of media and tasks by name, and where their files are looked for."""

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

from epalm.errors import MissingFileError, UsageError
from epalm.plugins import TypedName, load_plugin
from epalm.tasks import manifest
from epalm.tasks.readers.folder_check import check_inside
from epalm.tasks.types import MediaSet, Task

DATASETS: dict[str, str] = {
    "coco": "epalm.tasks.benchmarks.karpathy:coco",
    "coco-test2015": "epalm.tasks.benchmarks.vqa2:submission_photos",
    "flickr8k": "epalm.tasks.benchmarks.karpathy:flickr8k",
    "flickr30k": "epalm.tasks.benchmarks.karpathy:flickr30k",
    "gqa": "epalm.tasks.benchmarks.gqa:media",
    "nocaps": "epalm.tasks.benchmarks.nocaps:media",
    "cc3m": "epalm.tasks.benchmarks.cc3m:media",
    "msrvtt": "epalm.tasks.benchmarks.epalm_json:msrvtt",
    "msvd": "epalm.tasks.benchmarks.epalm_json:msvd",
    "audiocaps": "epalm.tasks.benchmarks.epalm_json:audiocaps",
}
"""Set of media -> "module:factory"; a factory is called with the data root and gives a MediaSet."""

TASKS: dict[str, str] = {
    "vqa2": "epalm.tasks.benchmarks.vqa2:task",
    "okvqa": "epalm.tasks.benchmarks.okvqa:task",
    "gqa": "epalm.tasks.benchmarks.gqa:task",
    "coco-caption": "epalm.tasks.benchmarks.karpathy:coco_captions",
    "flickr8k-caption": "epalm.tasks.benchmarks.karpathy:flickr8k_captions",
    "flickr30k-caption": "epalm.tasks.benchmarks.karpathy:flickr30k_captions",
    "nocaps-caption": "epalm.tasks.benchmarks.nocaps:task",
    "cc3m-caption": "epalm.tasks.benchmarks.cc3m:task",
    "msrvtt-qa": "epalm.tasks.benchmarks.epalm_json:msrvtt_qa",
    "msrvtt-caption": "epalm.tasks.benchmarks.epalm_json:msrvtt_captions",
    "msvd-qa": "epalm.tasks.benchmarks.epalm_json:msvd_qa",
    "audiocaps-caption": "epalm.tasks.benchmarks.epalm_json:audiocaps_captions",
    manifest.TASK: "epalm.tasks.manifest:task",
}
"""Task -> "module:factory"; a factory is called with the data root and gives a Task."""

DATA_ROOT_VARIABLE = "EPALM_DATA_ROOT"

DEFAULT_DATA_ROOT = "data"
"""Looked in where neither an option nor the environment nor a store names a data root."""


def resolve_data_root(option: Path | None, *, recorded: str = "", task: str = "") -> Path:
    """The folder in which data sets are looked for.

    The first of these that is given: the option, $EPALM_DATA_ROOT, the folder recorded in the
    store, `data` in the current folder. The environment does not count for the task "manifest":
    it names a folder of published sets, whereas a manifest's root is the manifest's own folder.

    Args:
        option: value of --data-root.
        recorded: `data_root` of a store.
        task: the task that will read from it, if one is known.

    Returns:
        An absolute path; it need not exist.

    Raises:
        UsageError: it begins with the home of an unknown user.
    """
    variable = "" if task == manifest.TASK else os.environ.get(DATA_ROOT_VARIABLE, "")
    named = Path(option or variable or recorded or DEFAULT_DATA_ROOT)
    try:
        return named.expanduser().absolute()
    except RuntimeError as error:  # ~name of a user whom nobody knows
        raise UsageError(
            f"the data root {named} begins with the home of an unknown user: give a path, with "
            f"--data-root or the environment variable {DATA_ROOT_VARIABLE}"
        ) from error


def load_media(
    name: str, data_root: Path | None = None, *, allow_outside: bool = False
) -> MediaSet:
    """The set of media of this name.

    Args:
        name: a key of `DATASETS`, a manifest's folder or file, or a `TypedName`
            `package.module:Name` of a factory like those of `DATASETS`.
        data_root: as from `resolve_data_root`, which is asked if None. A manifest does not need it.
        allow_outside: let names and links lead out of the folders of the set, as a person permitted
            on the command line; code that a person named is trusted anyway.

    Raises:
        UsageError: no such set, and no such path.
        DataError: see `check_inside`.
        MissingFileError: one of its files is not there.
        MalformedFileError: one of its files has another layout.
    """
    found = _named_media(name, data_root)
    if not allow_outside and (name in DATASETS or found.tasks == (manifest.TASK,)):
        check_inside(found.items)
    return found


def _named_media(name: str, data_root: Path | None) -> MediaSet:
    if name not in DATASETS and os.path.exists(name):  # noqa: PTH110 - Path raises on long names
        return manifest.media(Path(name))
    if name not in DATASETS and _is_path(name):
        raise MissingFileError(f"there is no folder and no file {Path(name).absolute()}")
    factory = load_plugin(
        name, DATASETS, what="set of media, no path of a manifest", option="--dataset"
    )
    found = cast(MediaSet, _made(factory(resolve_data_root(data_root)), MediaSet, name))
    if isinstance(name, TypedName):  # what the named code names is named, too
        return replace(found, tasks=tuple(map(TypedName, found.tasks)))
    return found


def load_task(name: str, data_root: Path | None = None) -> Task:
    """The task of this name.

    Args:
        name: a key of `TASKS`, or a `TypedName` `package.module:Name` of a factory like those of
            `TASKS`.
        data_root: as from `resolve_data_root`, which is asked if None. For the task "manifest" it
            must be the manifest's folder.

    Raises:
        UsageError: no such task.
        MissingFileError: the task is "manifest" and `data_root` holds none.
        MalformedFileError: the task is "manifest" and its first file has another layout.
    """
    factory = load_plugin(name, TASKS, what="task", option="--task")
    root = resolve_data_root(data_root, task=name)
    found = cast(Task, _made(factory(root), Task, name))
    return replace(found, metric=TypedName(found.metric)) if isinstance(name, TypedName) else found


def _is_path(name: str) -> bool:
    return Path(name).suffix in manifest.FORMATS or (os.sep in name and ":" not in name)


def _made(value: object, wanted: type, name: str) -> object:
    if not isinstance(value, wanted):
        raise UsageError(f"{name} gave a {type(value).__name__}, wanted a {wanted.__name__}")
    return value
