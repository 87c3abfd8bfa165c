"""The files of a run or a store that are shared, and whether it is complete enough for that."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from epalm.cache.formats.store_format import SUFFIXES
from epalm.cache.maintenance.verify import verify
from epalm.cache.storage.local_storage import PUT_FOLDER
from epalm.cache.store import Store
from epalm.errors import MissingFileError, RunFolderError, StoreError, UsageError
from epalm.hub.card.card_scores import validated_epochs
from epalm.model.checkpoints.run_record import (
    ADAPTER_FILE,
    METRICS_FILE,
    RECIPE_FILE,
    RECORD_FILE,
    RunRecord,
    read_recipe,
)
from epalm.model.checkpoints.soup_record import SOUP_FILE

MODEL_FILES = (RECORD_FILE, RECIPE_FILE, ADAPTER_FILE, "config.json", "README.md", "versions.json")
"""Files that answering needs, and those that describe them."""

RUN_FILES = frozenset((*MODEL_FILES, METRICS_FILE, SOUP_FILE))

EVALUATION_FILE = re.compile(r"eval/[^/]+/(scores\.json|unscored\.json|predictions\.jsonl)")

CHECKPOINT_FILES = frozenset(("checkpoint.safetensors", "last.safetensors"))
"""Files that resuming the training needs."""

FULL_EPOCHS = "epochs"


@dataclass(frozen=True)
class SharedFile:
    """A local file and its name in the repository."""

    path: Path
    name: str

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.path.stat().st_size


def is_run_file(name: str, *, checkpoints: bool) -> bool:
    """Whether a file of a run folder is shared.

    Args:
        name: path below the run folder, with forward slashes.
        checkpoints: whether the files that resuming needs are shared, too.
    """
    shared = name in RUN_FILES or EVALUATION_FILE.fullmatch(name) is not None
    return shared or (checkpoints and name in CHECKPOINT_FILES)


def is_store(location: str) -> bool:
    """Whether a path has the suffix of a feature store."""
    return Path(location.rstrip("/")).suffix in SUFFIXES


def store_of(name: str) -> str:
    """The store that a file of a repository belongs to, e.g. "coco.zarr"; "" for none."""
    first = name.partition("/")[0].removesuffix(".shards")
    return first if is_store(first) else ""


def run_files(run: Path, *, checkpoints: bool) -> list[SharedFile]:
    """The files of a finished run that are shared, sorted by name.

    Raises:
        DataError: the folder is not a run, or its files are damaged.
        RunFolderError: the training is not finished, or a file is a link.
    """
    _check_finished(run)
    files = [SharedFile(path, path.relative_to(run).as_posix()) for path in _files_below(run)]
    return _without_links(
        [file for file in files if is_run_file(file.name, checkpoints=checkpoints)]
    )


def _check_finished(run: Path) -> None:
    RunRecord.load(run)
    if not (run / ADAPTER_FILE).is_file():
        raise MissingFileError(
            f"{run} has no {ADAPTER_FILE}: train it to the end of an epoch first"
        )
    epochs, validated = read_recipe(run).get(FULL_EPOCHS), validated_epochs(run)
    if (run / METRICS_FILE).is_file() and isinstance(epochs, int) and validated < epochs:
        raise RunFolderError(
            f"{run} is not finished, {validated} of {epochs} epochs are trained: resume it with "
            "the same `epalm-train` command first"
        )


def store_files(location: str) -> list[SharedFile]:
    """The files of a finished store, with its own name in front, sorted by name.

    Raises:
        UsageError: the store is not local.
        StoreError: it does not exist, is incomplete or damaged.
    """
    if "://" in location:
        raise UsageError(f"{location} is not local: give the path of a store")
    store = Store.open(location)
    store.check_complete()
    if issue := next(iter(verify(store)), None):
        raise StoreError(
            f"{location} is damaged, {issue.name} {issue.found}: run `epalm-extract repair "
            f"{location}`, then extract again"
        )
    parent = Path(location).parent
    files = [
        SharedFile(path, path.relative_to(parent).as_posix())
        for top in store.format.paths(location)
        for path in ((Path(top),) if Path(top).is_file() else _files_below(Path(top)))
    ]
    return _without_links(sorted(files, key=lambda file: file.name))


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, without hidden ones and those of interrupted writers."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and PUT_FOLDER not in parts and not any(p.startswith(".") for p in parts):
            yield path


def _without_links(files: list[SharedFile]) -> list[SharedFile]:
    linked = next((file.path for file in files if file.path.is_symlink()), None)
    if linked:
        raise RunFolderError(f"{linked} is a link: replace it by the file that is meant")
    return files
