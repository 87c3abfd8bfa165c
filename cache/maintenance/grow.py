"""Open a store to extract into it: create it, resume it, or add the samples of a grown dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from epalm.cache.create_store import create_store
from epalm.cache.formats.store_format import sums_of
from epalm.cache.index.index_keys import IndexKeys
from epalm.cache.maintenance.media_check import first_keys
from epalm.cache.records.growth_record import GrowthRecord, copy_records
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import CacheMismatchError, CorruptShardError, StoreError, UnfinishedStoreError

ChangedDataset = Literal["grow", "refuse"]
"""What to do with a dataset of other samples than those of the store."""

MAX_ABSENT_FRACTION = 0.1
"""A dataset without more than this fraction of a store's samples counts as another dataset."""

COMPARED_KEYS = 1 << 16
"""Keys of a store that are looked up in an index at a time."""

HINT = "Choose another --out, or start over with --fresh."


@dataclass(frozen=True)
class DatasetChange:
    """Difference between the samples of a store and those of a dataset.

    Attributes:
        new: keys of the dataset that the store does not have, in the order of the dataset.
        absent: keys of the store that the dataset does not have.
        present: number of samples in the store.
    """

    new: tuple[str, ...]
    absent: tuple[str, ...]
    present: int


def open_to_extract(
    location: str | Path,
    spec: StoreSpec,
    keys: Sequence[str],
    *,
    store_format: str | None = None,
    changed: ChangedDataset | None = None,
    defer_keys: bool = False,
) -> tuple[Store, DatasetChange]:
    """The store at a path or URL with all samples of a dataset, some or all of which are missing.

    New samples get rows after those of the store, in the order of the dataset. Nothing is deleted.
    Several processes may do the same at once: the first one adds the rows.

    Args:
        location: path or URL.
        spec: content and settings of a store for this dataset alone.
        keys: keys of the samples of the dataset.
        store_format: "zarr" or "hdf5"; None infers it from the suffix of the path.
        changed: what to do if the dataset has other samples than the store; None adds the new ones
            unless the dataset seems to be another one, see `MAX_ABSENT_FRACTION`.
        defer_keys: as in `create_store`, for a new store.

    Returns:
        The store, opened with all its rows, and how the dataset differed from it before.

    Raises:
        CacheMismatchError: a store of other settings is there, or `changed` refuses the dataset.
        StoreError: other files are there, nothing can be written there, or a key is repeated.
    """
    store = Store.at(location, store_format)
    create = partial(create_store, location, store_format=store_format, defer_keys=defer_keys)
    if not store.exists():
        if not store.storage.names(store.growth_folders[0]):
            created = create(spec, keys)
            return created, DatasetChange((), (), len(keys))
        _restore_spec(store, spec)
    store = store.latest()
    if _is_unchanged(store, spec, keys):
        created = create(spec.in_shards_of(store.spec.shard_rows), keys)
        return created, DatasetChange((), (), len(keys))
    change = compare_dataset(store, spec, keys, changed)
    new = change.new
    while new:
        _add_generation(store, new)
        store = store.latest()
        new = _difference(store.keys, keys).new
    copy_records(store.storage, *store.growth_folders)
    Store.at(location, store_format).write_library_files()  # of the last finished generation
    return store, change


def compare_dataset(
    store: Store, spec: StoreSpec, keys: Sequence[str], changed: ChangedDataset | None
) -> DatasetChange:
    """Compare a dataset with a store, and refuse one that does not belong to it.

    Args:
        store: the store with all its rows.
        spec: content and settings of a store for the dataset alone.
        keys: keys of the samples of the dataset.
        changed: what to do if the samples differ, as in `open_to_extract`.

    Raises:
        CacheMismatchError: settings differ, or the samples do and `changed` does not allow that.
        StoreError: a key is repeated.
    """
    if not isinstance(keys, IndexKeys) and len(set(keys)) != len(keys):
        raise StoreError(f"{len(keys)} keys ({len(set(keys))} distinct) of samples")
    present = store.spec
    wanted = spec.grown_to(present.count).in_shards_of(present.shard_rows)
    present.check_same(wanted, where=store.location, hint=HINT)
    if spec.content_hash and not present.content_hash:
        raise CacheMismatchError(
            f"{store.location} was created without --content-hash: omit the option. {HINT}"
        )
    if isinstance(keys, IndexKeys) and _is_unchanged(store, spec, keys):
        return DatasetChange((), (), len(keys))
    change = _difference(_keys(store), keys)
    _check_change(change, store, changed)
    return change


def _difference(present: Sequence[str], keys: Sequence[str]) -> DatasetChange:
    """The difference between the keys of a store and those of a dataset, which may be an index."""
    if not isinstance(keys, IndexKeys):
        known, listed = set(present), set(keys)
        new = tuple(key for key in keys if key not in known)
        return DatasetChange(new, tuple(k for k in present if k not in listed), len(known))
    is_new, absent = np.ones(len(keys), np.bool_), list[str]()
    for start in range(0, len(present), COMPARED_KEYS):
        some = present[start : start + COMPARED_KEYS]
        rows = keys.find(some)
        is_new[rows[rows >= 0]] = False
        absent += [some[number] for number in np.flatnonzero(rows < 0).tolist()]
    return DatasetChange(tuple(keys.take(np.flatnonzero(is_new))), tuple(absent), len(present))


def describe_change(change: DatasetChange, location: str) -> list[str]:
    """A line about the new samples, and one about those that are absent, if there are any."""
    lines = []
    if change.new:
        lines.append(
            f"{location}: {counted(len(change.new), 'sample')} of the dataset "
            f"{'is' if len(change.new) == 1 else 'are'} new ({first_keys(change.new)}), added "
            f"after the {change.present} that it has"
        )
    if change.absent:
        lines.append(
            f"{location}: {len(change.absent)} of its {change.present} samples are not in the "
            f"dataset any more ({first_keys(change.absent)}): their rows are kept; --fresh leaves "
            "them out"
        )
    return lines


def _keys(store: Store) -> Sequence[str]:
    """The keys of a store, which may be lost, or not written yet."""
    try:
        return store.keys
    except UnfinishedStoreError as error:
        raise UnfinishedStoreError(
            f"{error}; but the dataset has changed since, so that nobody knows them any more: "
            "restore it as it was, or start over with --fresh"
        ) from error
    except CorruptShardError as error:
        raise CorruptShardError(
            f"{error}; if that does not help, the store's list of samples is lost and the dataset "
            "has changed since: start over with --fresh"
        ) from error


def _check_change(change: DatasetChange, store: Store, changed: ChangedDataset | None) -> None:
    if changed == "refuse" and (change.new or change.absent):
        raise CacheMismatchError(
            f"{store.location} has other samples than the dataset: {len(change.new)} are new, "
            f"{len(change.absent)} of its {change.present} are absent, and --changed-dataset "
            f"refuse allows none. {HINT}"
        )
    if changed is None and len(change.absent) > MAX_ABSENT_FRACTION * change.present:
        raise CacheMismatchError(
            f"the dataset lacks {len(change.absent)} of the {change.present} samples of "
            f"{store.location} ({first_keys(change.absent)}), as another dataset would: correct "
            "--dataset, --data-root or --limit, choose another --out, or give --changed-dataset "
            "grow to keep their rows and add "
            f"{counted(len(change.new), 'new sample')}"
        )


def _is_unchanged(store: Store, spec: StoreSpec, keys: Sequence[str]) -> bool:
    """Whether a store that has not grown has exactly these samples; its keys are not read."""
    same = spec.in_shards_of(store.spec.shard_rows)
    return not store.growth and store.header.store == same.digest(keys)


def _restore_spec(store: Store, spec: StoreSpec) -> None:
    """Write the lost spec.json of a store that has grown, for the samples it was created with."""
    name = store.growth_record_name(0)
    first = GrowthRecord.from_bytes(store.storage.read(name), f"{store.location}: {name}")
    created = spec.grown_to(first.count).in_shards_of(first.shard_rows)
    if created.digest(first.keys) != first.store:
        raise CacheMismatchError(
            f"{store.location} was extracted with other settings, and its spec.json is lost: run "
            f"the command that made it. {HINT}"
        )
    files = store.format.encode_initial_files(created, first.keys)
    header = StoreHeader.make(created, first.keys, files)
    store.storage.put_new(store.private_name("spec.json"), [header.to_bytes()])


def _add_generation(store: Store, new: Sequence[str]) -> None:
    """Add rows for new samples, unless another process has just added a generation."""
    rows = store.spec.shard_rows
    if not store.growth:
        files = store.header.files
        first = GrowthRecord(store.spec.count, store.header.store, rows, files, tuple(store.keys))
        _put_new(store, 0, first)
    keys = (*store.keys, *new)
    spec = store.spec.grown_to(len(keys))
    digest = spec.digest(keys)
    grown = store.generations.with_next(len(keys), digest)
    files = {
        name: sums_of(data)
        for name, data in store.format.encode_initial_files(spec, keys, grown).items()
    }
    _put_new(store, grown.latest, GrowthRecord(len(keys), digest, rows, files, tuple(new)))


def _put_new(store: Store, generation: int, record: GrowthRecord) -> None:
    name = store.growth_record_name(generation)
    try:
        store.storage.put_new(name, [record.to_bytes()])
    except OSError as error:
        raise StoreError(
            f"{name} of {store.location} could not be written ({error}): free some space or give "
            "write access, then run the same command again"
        ) from error
