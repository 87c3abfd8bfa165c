"""A new store, or the one that is there already."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from epalm.cache.records.commit_record import StoreHeader
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, StoreError


def create_store(
    location: str | Path,
    spec: StoreSpec,
    keys: Sequence[str],
    *,
    store_format: str | None = None,
    mend: str = "Choose another --out, or start over with --fresh.",
) -> Store:
    """Create the store at a path or URL, or reopen it to write what it still misses.

    Of several processes that create it at once the first writes spec.json; the others compare.

    Args:
        location: path or URL.
        spec: what the vectors are.
        keys: the key of every row.
        store_format: see `epalm.cache.formats.store_format.layout_of`.
        mend: what to do about another store in its place, for the message.

    Raises:
        CacheMismatchError: a store of other settings or other records is there.
        StoreError: something else is there, or the place cannot be written; repeated keys.
    """
    if len(keys) != spec.count or len(set(keys)) != len(keys):
        raise StoreError(f"{len(keys)} keys ({len(set(keys))} distinct) for {spec.count} records")
    store = Store.at(location, store_format)
    skeleton = store.layout.skeleton(spec, keys)
    head = StoreHeader.make(spec, keys, skeleton)
    try:
        if not store.exists():
            _check_free(store, spec, skeleton)
            store.place.put_new(store.name("spec.json"), [head.to_bytes()])
        _check_same(store, head, mend)
        store.keys = tuple(keys)  # the digest has shown that they are the store's
        for name, data in skeleton.items():
            if store.place.size(name) is None:
                store.place.put(name, [data])
    except OSError as error:
        raise StoreError(
            f"{location} cannot be created ({error}): choose an --out that can be written"
        ) from error
    return store


def delete_store(store: Store) -> None:
    """Delete all of a store, commit records first; nothing is deleted if anything is in the way.

    Raises:
        StoreError: nothing is there that is known to be a store; or it is a symbolic link, of which
            what it leads to would be deleted in part.
    """
    if not store.exists():
        raise StoreError(
            f"--fresh deletes only feature stores, {store.location} is none: name another --out"
        )
    links = [] if "://" in store.location else store.layout.paths(store.location)
    for path in map(Path, links):
        if path.is_symlink():
            raise StoreError(
                f"{path} is a symbolic link to {path.resolve()}, and --fresh deletes nothing "
                f"behind a link: name {path.resolve()} with --out, or remove the link"
            )
    done = store.place.names(store.name("done"))
    store.place.delete([*done, *store.head.files])
    store.place.clear()


def _check_free(store: Store, spec: StoreSpec, skeleton: Mapping[str, bytes]) -> None:
    """Refuse a place that holds more than `repair` leaves of a store that lost its spec.json."""
    found = set(store.place.names(""))
    found |= {name for name in skeleton if store.place.size(name) is not None}
    left = {name for name in found if name.startswith(store.name("done/"))}
    for shard in range(spec.shards if found else 0):
        left |= {*store.layout.shard_files(shard), store.media_name(shard)}
    if found - left and not store.exists():  # else another process has just created it
        raise StoreError(
            f"found no feature store at {store.location}, but other files: choose another --out; "
            f"if it was a store, run `epalm-extract repair {store.location}`"
        )


def _check_same(store: Store, wanted: StoreHeader, mend: str) -> None:
    store.spec.check_same(wanted.spec, where=store.location, mend=mend)
    if store.head.store != wanted.store:
        raise CacheMismatchError(f"{store.location} holds other records than the data set. {mend}")
    if wanted.spec.content_hash and not store.spec.content_hash:
        raise CacheMismatchError(
            f"{store.location} was begun without --content-hash: leave the option out. {mend}"
        )
