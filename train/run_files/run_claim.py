"""Exclusive access to a run folder during training, and its atomic creation.

A new folder is filled next to its final path, under a name that begins with a dot, and renamed. A
process that is killed before leaves nothing that the next command cannot replace.
"""

import importlib.metadata
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from epalm.atomic_write import sync
from epalm.errors import RunFolderError, UsageError
from epalm.model.checkpoints.run_record import RECIPE_FILE, RECORD_FILE, RunRecord
from epalm.portable_path import to_portable
from epalm.train.config.recipe import Recipe, load_recipe
from epalm.train.run_files.run_folder import (
    KEPT_CHARACTERS,
    VERSIONS_FILE,
    check_name,
    recorded_run,
    writes_named,
)
from epalm.train.run_files.run_lock import LOCK_FILE, locked

logger = logging.getLogger(__name__)

RECORDED_PACKAGES = ("epalm", "torch", "transformers", "numpy", "zarr")
"""Packages whose versions a run records."""

BEGUN = {VERSIONS_FILE, RECORD_FILE, LOCK_FILE}
"""Files that version 0.0 left when it was killed while it created a run folder."""

MOVABLE = ("features", "data_root", "weights", "model")
"""Fields of a record with locations; of the model only that of the language model may differ."""

AGAIN = "run the same command again to resume it, or choose another --name"


@dataclass
class RunClaim:
    """The exclusive right to write in a run folder.

    Attributes:
        run: run folder as the user named it.
        place: the same path without symbolic links.
        staging: folder in which a new run is prepared; None if a run is resumed.
    """

    run: Path
    place: Path
    staging: Path | None

    def open(self, record: RunRecord, recipe: Recipe) -> None:
        """Move the new run into place, or check that the run to resume has the same settings.

        Raises:
            UsageError: the run to resume has other settings.
            RunFolderError: the folder cannot be written.
        """
        if self.staging is None:
            moved = _check_same(self.run, record, recipe)
            if moved:
                logger.info("%s resumes with what has moved: %s", self.run, ", ".join(moved))
                with writes_named(self.run):
                    record.save(self.place)
            return
        with writes_named(self.run):
            _fill(self.staging, record, recipe)
            _swap(self.staging, self.place)
        self.staging = None


@contextmanager
def claimed(run: Path, *, fresh: bool) -> Iterator[RunClaim]:
    """Lock a run folder, which need not exist yet; a claim that was not opened leaves no files.

    A process that creates a run holds the lock of its staging folder, and that of the run which it
    replaces.

    Args:
        run: runs/<name>; symbolic links are followed.
        fresh: start a new run even if there is one, which `RunClaim.open` then deletes.

    Raises:
        UsageError: the name is impossible, or the folder contains something else than a run.
        RunFolderError: another process trains in it, or it cannot be written.
    """
    place = Path(os.path.realpath(run))
    check_name(run.name)
    claim = RunClaim(run, place, None)
    with ExitStack() as locks:
        with writes_named(run):
            exists = _contains_run(run)
            if exists:
                locks.enter_context(locked(place, run=run))
            if fresh or not exists:
                claim.staging = _beside(place, "new")
                created = [folder for folder in place.parents if not folder.exists()]
                claim.staging.mkdir(parents=True, exist_ok=True)
                locks.enter_context(locked(claim.staging, run=run))
                locks.callback(_discard, claim, created)
            if _contains_run(run) != exists:
                raise RunFolderError(f"{run} was created by another process just now: {AGAIN}")
        yield claim


def _discard(claim: RunClaim, created: Sequence[Path]) -> None:
    """Remove a staging folder that was not used, and the folders that were created for it."""
    if claim.staging is None:
        return
    with suppress(OSError):
        shutil.rmtree(claim.staging)
    for folder in created:
        with suppress(OSError):  # another run is in it
            folder.rmdir()


def _contains_run(run: Path) -> bool:
    """Whether the folder is a run; False if it does not exist or is an incomplete run.

    Raises:
        UsageError: it is something else.
    """
    if (run / RECIPE_FILE).is_file():
        return True
    if run.exists() and not (run.is_dir() and {file.name for file in run.iterdir()} <= BEGUN):
        raise UsageError(f"{run} exists and is not a run: choose another --name")
    return False


def _fill(staging: Path, record: RunRecord, recipe: Recipe) -> None:
    """Write the files of a new run; files that a killed process left there are deleted."""
    for file in staging.iterdir():
        if file.name != LOCK_FILE:
            file.unlink()
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    (staging / VERSIONS_FILE).write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")
    portable = replace(recipe, lm=to_portable(recipe.lm, staging))
    (staging / RECIPE_FILE).write_text(portable.to_toml(), encoding="utf-8")
    record.save(staging)
    for name in (VERSIONS_FILE, RECIPE_FILE, RECORD_FILE):
        sync(staging / name)
    sync(staging)


def _swap(staging: Path, place: Path) -> None:
    """Rename the complete folder to its final path; a run that it replaces is deleted then."""
    old = _beside(place, "old")
    if old.exists():
        shutil.rmtree(old)
    if place.exists():
        place.replace(old)
    staging.replace(place)
    sync(place.parent)
    if old.exists():
        shutil.rmtree(old)


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(f".{place.name[:KEPT_CHARACTERS]}.{ending}")


def _check_same(run: Path, record: RunRecord, recipe: Recipe) -> list[str]:
    """Compare the settings of a run to resume with those that are given now.

    Locations do not count: the language model is recognized by the digest of its weights, and store
    and dataset by the fields of the store and the digest of the examples.

    Returns:
        Names of what is at another location than before.

    Raises:
        UsageError: another setting differs.
    """
    before, earlier = recorded_run(run), asdict(recorded_recipe(run))
    located = _with_locations_of(before, record)
    if located.model.lm == record.model.lm:
        earlier["lm"] = recipe.lm
    given = vars(record) | {"recipe": Path(record.recipe).name}
    recorded = vars(located) | {"recipe": Path(located.recipe).name}
    differing = [name for name, value in given.items() if recorded[name] != value]
    keys = [key for key, value in asdict(recipe).items() if earlier[key] != value]
    if keys:
        differing.append(f"{', '.join(keys)} in {RECIPE_FILE}")
    if differing:
        raise UsageError(
            f"{run} is a run with other settings ({', '.join(differing)} differ): "
            "choose another --name, or start over with --fresh"
        )
    return [name for name in MOVABLE if getattr(before, name) != getattr(record, name)]


def _with_locations_of(before: RunRecord, record: RunRecord) -> RunRecord:
    """A recorded run with the locations of another record, where both have the same content."""
    moved = replace(before, weights=record.weights)
    if before.examples and before.examples == record.examples and before.store == record.store:
        moved = replace(moved, features=record.features, data_root=record.data_root)
    if before.lm_digest == record.lm_digest:
        moved = replace(moved, model=replace(before.model, lm=record.model.lm))
    return moved


def recorded_recipe(run: Path) -> Recipe:
    """The recipe of a run that is to be resumed.

    Raises:
        RunFolderError: recipe.toml is damaged.
    """
    try:
        return load_recipe(str(run / RECIPE_FILE))
    except UsageError as error:
        raise RunFolderError(
            f"{run} cannot be resumed ({error}): start over with --fresh"
        ) from error
