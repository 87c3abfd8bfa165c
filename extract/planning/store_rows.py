"""The store of a run, and the sample of the dataset that belongs to each of its rows."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from epalm.cache.create_store import delete_store
from epalm.cache.maintenance.grow import (
    DatasetChange,
    compare_dataset,
    describe_change,
    open_to_extract,
)
from epalm.cache.records.extraction_log import delete_extraction_log
from epalm.cache.store import Store
from epalm.extract.indexing.index_items import IndexItems, match_index
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.extraction_plan import Plan
from epalm.tasks.types import MediaItem

RowItems: TypeAlias = Sequence[MediaItem | None]
"""The sample of each row of a store; None if the dataset does not have it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where the features of a run go.

    Attributes:
        store: the store with all its rows.
        items: the sample of each row.
        plan: the plan of the run, with the spec of this store.
    """

    store: Store
    items: RowItems
    plan: Plan


def open_target(plan: Plan, options: ExtractOptions, *, defer_keys: bool = False) -> Target:
    """Create or open the store of a run, add rows for new samples, and log how the dataset changed.

    Args:
        plan: the plan of the run.
        options: the options of the command.
        defer_keys: leave the keys of a new store to `Store.write_deferred_files`.

    Raises:
        CacheMismatchError: a store of other settings is there, or too many of its samples are not
            in the dataset.
        StoreError: other files are there, or nothing can be written there.
    """
    existing = Store.at(plan.out, plan.store_format)
    if options.fresh and existing.storage.names(""):
        delete_store(existing)
        delete_extraction_log(plan.out)
    store, change = open_to_extract(
        plan.out,
        plan.spec,
        plan.keys,
        store_format=plan.store_format,
        changed=options.changed_dataset,
        defer_keys=defer_keys,
    )
    log_change(change, plan.out)
    return Target(store, match_rows(plan.items, store), replace(plan, spec=store.spec))


def join_target(plan: Plan, location: str) -> Target:
    """Open the store of a run as another process has opened it; nothing is written.

    Raises:
        CacheMismatchError: the encoder of this process has other settings.
    """
    store = Store.at(location, plan.store_format).latest()
    wanted = plan.spec.grown_to(store.spec.count).in_shards_of(store.spec.shard_rows)
    advice = "Give every machine the same version of epalm and the same weights."
    store.spec.check_same(wanted, where=location, hint=advice)
    return Target(store, match_rows(plan.items, store), replace(plan, spec=store.spec))


def log_change(change: DatasetChange, location: str) -> None:
    """Log a line for new samples and one for absent ones, if there are any."""
    for line in describe_change(change, location):
        logger.info("%s", line)


def match_rows(items: Sequence[MediaItem], store: Store) -> RowItems:
    """The sample of each row of a store; None for a row that no sample has.

    The keys of the store are not read if its digest is that of an index, which has them.
    """
    if isinstance(items, IndexItems) and len(items) == store.spec.count:
        digest = store.generations.digests[store.generation]
        keys = items.keys
        if store.spec.digest(keys) == digest:
            store.keys = keys
            return items
    return match_items(items, store.keys)


def match_items(items: Sequence[MediaItem], keys: Sequence[str]) -> RowItems:
    """The sample of each key; None for a key that no sample has."""
    if isinstance(items, IndexItems):
        return match_index(items, keys)
    if len(items) == len(keys) and all(
        item.key == key for item, key in zip(items, keys, strict=True)
    ):
        return items
    by_key = {item.key: item for item in items}
    return [by_key.get(key) for key in keys]


def samples_to_encode(plan: Plan, options: ExtractOptions) -> tuple[Plan, int]:
    """What a run would do, without writing anything.

    Returns:
        The plan with the spec that the store would have, and the number of samples that the run
        would encode.

    Raises:
        CacheMismatchError: the run would refuse the store that is there.
    """
    store = Store.at(plan.out, plan.store_format)
    if options.fresh or not store.exists():
        return plan, plan.spec.count
    store = store.latest()
    change = compare_dataset(store, plan.spec, plan.keys, options.changed_dataset)
    log_change(change, plan.out)
    missing = sum(store.missing_rows(shard) for shard in store.missing_shards())
    spec = store.spec.grown_to(store.spec.count + len(change.new))
    return replace(plan, spec=spec), missing + len(change.new)
