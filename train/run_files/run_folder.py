"""Run folders: names, recorded settings, and the model card."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from epalm.cache.readers.epoch_order import ShuffleSpec
from epalm.cache.readers.joined.joined_spec import SEPARATOR
from epalm.cache.readers.joined.joined_stores import JoinedStores
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, DataError, RunFolderError, UsageError
from epalm.hub.card.model_card import write_card
from epalm.model.checkpoints.run_name import NAME_BYTES, is_run_name
from epalm.model.checkpoints.run_record import RECIPE_FILE, RunRecord

logger = logging.getLogger(__name__)

VERSIONS_FILE = "versions.json"

KEPT_CHARACTERS = 60
"""Characters of the run's name in names of temporary folders; each takes at most 4 bytes."""


def default_name(task: str, spec: StoreSpec, lm: str, variant: str, *, blind: bool) -> str:
    """The default name of a run folder, e.g. "coco-vqa2_vit-b16_opt-2.7b_full"."""
    label = task if spec.dataset in task else f"{spec.dataset}-{task}"
    encoders = spec.encoder.replace(SEPARATOR, "+")
    parts = [Path(label).name, encoders, Path(lm).name, variant]
    return "_".join(parts + ["blind"] * blind).replace("/", "-").replace(":", "-")


def check_name(name: str) -> None:
    """Refuse a run name that no folder can have.

    Raises:
        UsageError: it is too long or has control characters.
    """
    size = len(os.fsencode(name))
    if size > NAME_BYTES:
        raise UsageError(
            f"the run's name has {size} bytes, a folder's may have {NAME_BYTES}: give a shorter "
            f"--name (found {name[:KEPT_CHARACTERS]!r}...)"
        )
    if not is_run_name(name):
        raise UsageError(f"{name!r} cannot be a run's name: give another --name")


def earlier_run(
    folder: Path, stores: JoinedStores, *, fresh: bool
) -> tuple[JoinedStores, RunRecord | None]:
    """The run to resume, and the rows of the stores that it was started with.

    Args:
        folder: run folder.
        stores: stores that are to be trained on; they may have grown since the run was started.
        fresh: whether a run that is there is to be deleted.

    Returns:
        The stores in the generation of the run and the record of the run; `stores` and None for a
        new run.

    Raises:
        CacheMismatchError: the run was trained on a store of other settings or records.
    """
    if fresh or not (folder / RECIPE_FILE).is_file():
        return stores, None
    record = recorded_run(folder)
    part = stores
    if not stores.parts:  # parts have no common earlier generation
        trained = tuple(_trained_part(store, record, folder) for store in stores.stores)
        part = replace(stores, stores=trained)
    fields = part.spec.comparable()
    differing = record.differing(fields, fields.keys() | record.store.keys())
    if differing:
        raise CacheMismatchError(
            f"the store is not the one that {folder} was trained on: {'; '.join(differing)}. Name "
            "that store with --features, choose another --name, or start over with --fresh"
        )
    return part, record


def _trained_part(store: Store, record: RunRecord, folder: Path) -> Store:
    """The store in the earlier generation that a run was trained on; `store` if there is none."""
    earlier = [str(count) for count in store.generations.counts[: store.generation]]
    count = record.store.get("count", "")
    if count not in earlier:
        return store
    logger.info(
        "%s was started with the first %s of the %d samples that %s has now, and resumes on these",
        folder,
        count,
        store.spec.count,
        store.location,
    )
    return store.in_generation(earlier.index(count))


def recorded_order(record: RunRecord | None) -> ShuffleSpec | None:
    """The order that a run to resume was started with; None for a new run."""
    if record is None:
        return None
    windows = record.window_shards, record.shard_blocks
    return ShuffleSpec(record.order, record.pool_blocks, *windows)


def recorded_run(folder: Path) -> RunRecord:
    """The record of a run that is to be resumed.

    Raises:
        RunFolderError: run.json is missing or damaged.
    """
    try:
        return RunRecord.load(folder)
    except DataError as error:
        raise RunFolderError(
            f"{folder} cannot be resumed ({error}): start over with --fresh"
        ) from error


@contextmanager
def writes_named(folder: Path) -> Iterator[None]:
    """Turn an error of writing a run's files into one that names the folder.

    Raises:
        RunFolderError: names the folder and the reason.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFolderError(
            f"{folder} could not be written ({reason}): free some space or give a writable --out, "
            "and run the same command again; the last complete checkpoint is kept"
        ) from error


def write_model_card(folder: Path) -> None:
    """Write README.md and config.json of a run, see `epalm.hub.card.model_card`.

    Raises:
        RunFolderError: they cannot be written.
    """
    with writes_named(folder):
        write_card(folder)
