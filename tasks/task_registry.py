"""Load datasets and tasks by name, and resolve the data root."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from epalm.errors import EpalmError, MissingFileError, UsageError
from epalm.plugins import TypedName, load_plugin
from epalm.tasks import manifest
from epalm.tasks.readers.folder_check import check_inside
from epalm.tasks.types import MediaSet, Task

DATASETS: dict[str, str] = {
    "coco": "epalm.tasks.benchmarks.karpathy:coco",
    "coco-test2015": "epalm.tasks.benchmarks.vqa2:submission_images",
    "flickr8k": "epalm.tasks.benchmarks.karpathy:flickr8k",
    "flickr30k": "epalm.tasks.benchmarks.karpathy:flickr30k",
    "gqa": "epalm.tasks.benchmarks.gqa:media",
    "nocaps": "epalm.tasks.benchmarks.nocaps:media",
    "cc3m": "epalm.tasks.benchmarks.cc3m:media",
    "msrvtt": "epalm.tasks.benchmarks.epalm_json:msrvtt",
    "msvd": "epalm.tasks.benchmarks.epalm_json:msvd",
    "audiocaps": "epalm.tasks.benchmarks.epalm_json:audiocaps",
}
"""Dataset -> "module:factory"; the factory takes the data root and returns a MediaSet."""

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
"""Task -> "module:factory"; the factory takes the data root and returns a Task."""

DATA_ROOT_VARIABLE = "EPALM_DATA_ROOT"

DEFAULT_DATA_ROOT = "data"
"""Data root if neither an option nor the environment nor a store specifies one."""


def resolve_data_root(option: Path | None, *, recorded: str = "", task: str = "") -> Path:
    """Return the folder in which datasets are searched.

    It is the first of these that is given: the option, $EPALM_DATA_ROOT, the folder recorded in the
    store, `data` in the current folder. The environment variable is ignored for the task
    "manifest": it specifies a folder of published datasets, and the root of a manifest is the
    manifest's own folder.

    Args:
        option: value of --data-root.
        recorded: `data_root` of a store.
        task: name of the task that will read from the folder, if known.

    Returns:
        An absolute path, which may not exist.

    Raises:
        UsageError: the path begins with the home of an unknown user.
    """
    variable = "" if task == manifest.TASK else os.environ.get(DATA_ROOT_VARIABLE, "")
    root = Path(option or variable or recorded or DEFAULT_DATA_ROOT)
    try:
        return root.expanduser().absolute()
    except RuntimeError as error:  # ~name of an unknown user
        raise UsageError(
            f"the data root {root} begins with the home of an unknown user: give a path, with "
            f"--data-root or the environment variable {DATA_ROOT_VARIABLE}"
        ) from error


def load_media(
    name: str, data_root: Path | None = None, *, allow_outside: bool = False
) -> MediaSet:
    """Load a dataset by name.

    Args:
        name: a key of `DATASETS`, the folder or file of a manifest, or a `TypedName`
            `package.module:Name` of a factory like those of `DATASETS`.
        data_root: data root; None resolves it with `resolve_data_root`. Manifests ignore it.
        allow_outside: allow paths and links that lead out of the dataset's folders. Only the user
            may permit this; factories given by the user are not checked.

    Raises:
        UsageError: there is no such dataset and no such path.
        DataError: a file is outside the folder of the dataset.
        MissingFileError: a file of the dataset does not exist.
        MalformedFileError: a file of the dataset has an unexpected structure.
    """
    media = _load_media(name, data_root)
    if not allow_outside and (name in DATASETS or media.tasks == (manifest.TASK,)):
        check_inside(media.items)
    return media


def load_moved_media(name: str, data_root: Path, *, allow_outside: bool = False) -> MediaSet:
    """Load a dataset by the name that extraction was given, wherever its files are now.

    A manifest that has moved is looked up in `data_root`: the file of the same name, then the
    folder.

    Args:
        name: recorded name, as for `load_media`.
        data_root: folder of the task's files.
        allow_outside: allow paths that lead out of the folders of the dataset, see `load_media`.

    Raises:
        EpalmError: as `load_media` does for the recorded name; there is no other place either.
    """
    try:
        return load_media(name, data_root, allow_outside=allow_outside)
    except EpalmError:
        for moved in (str(data_root / Path(name).name), str(data_root)):
            with suppress(EpalmError):
                return load_media(moved, data_root, allow_outside=allow_outside)
        raise


def _load_media(name: str, data_root: Path | None) -> MediaSet:
    if name not in DATASETS and os.path.exists(name):  # noqa: PTH110 - Path raises on long names
        return manifest.media(Path(name))
    if name not in DATASETS and _is_path(name):
        raise MissingFileError(f"there is no file or folder {Path(name).absolute()}")
    factory = load_plugin(
        name, DATASETS, what="dataset, and no path of a manifest", option="--dataset"
    )
    media = cast(MediaSet, _checked(factory(resolve_data_root(data_root)), MediaSet, name))
    if isinstance(name, TypedName):  # task names given by code of the user are trusted as well
        return replace(media, tasks=tuple(map(TypedName, media.tasks)))
    return media


def load_task(name: str, data_root: Path | None = None) -> Task:
    """Load a task by name.

    Args:
        name: a key of `TASKS`, or a `TypedName` `package.module:Name` of a factory like those of
            `TASKS`.
        data_root: data root; None resolves it with `resolve_data_root`. For the task "manifest" it
            must be the folder of the manifest.

    Raises:
        UsageError: there is no such task.
        MissingFileError: the task is "manifest" and `data_root` contains none.
        MalformedFileError: the task is "manifest" and its first file is malformed.
    """
    factory = load_plugin(name, TASKS, what="task", option="--task")
    root = resolve_data_root(data_root, task=name)
    task = cast(Task, _checked(factory(root), Task, name))
    return replace(task, metric=TypedName(task.metric)) if isinstance(name, TypedName) else task


def _is_path(name: str) -> bool:
    return Path(name).suffix in manifest.FORMATS or (os.sep in name and ":" not in name)


def _checked(value: object, expected: type, name: str) -> object:
    if not isinstance(value, expected):
        actual = type(value).__name__
        raise UsageError(f"{name} returned a {actual}, expected a {expected.__name__}")
    return value
