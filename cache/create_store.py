"""Create a store, reopen one to complete it, or delete one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from epalm.cache.formats.generations import Generations
from epalm.cache.formats.missing_store import other_files_error
from epalm.cache.formats.store_format import Content, parts_of
from epalm.cache.index.index_keys import IndexKeys
from epalm.cache.index.vlen_keys import KeysChunk
from epalm.cache.records.record_summary import SUMMARY_FILE
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, StoreError


def create_store(
    location: str | Path,
    spec: StoreSpec,
    keys: Sequence[str],
    *,
    store_format: str | None = None,
    hint: str = "Choose another --out, or start over with --fresh.",
    defer_keys: bool = False,
) -> Store:
    """Create the store at a path or URL, or reopen it to write its missing shards.

    If several processes create it at once, the first writes spec.json and the others compare.

    Args:
        location: path or URL.
        spec: content and settings of the store.
        keys: the key of every row.
        store_format: "zarr" or "hdf5"; None infers it from the suffix of the path.
        hint: what to do if another store is in its place, for the error message.
        defer_keys: leave the file with the keys of an index, which takes gigabytes for 10^8 of
            them, to `Store.write_deferred_files`.

    Raises:
        CacheMismatchError: a store of other settings or samples is there.
        StoreError: other files are there, nothing can be written there, or a key is repeated.
    """
    unique = isinstance(keys, IndexKeys) or len(set(keys)) == len(keys)
    if len(keys) != spec.count or not unique:
        raise StoreError(f"{len(keys)} keys ({len(set(keys))} distinct) for {spec.count} samples")
    store = Store.at(location, store_format)
    initial_files = store.format.encode_initial_files(spec, keys)
    header = StoreHeader.make(spec, keys, initial_files)
    try:
        if not store.exists():
            _check_free(store, spec, initial_files)
            store.storage.put_new(store.private_name("spec.json"), [header.to_bytes()])
        _check_same(store, header, hint)
        # The digests agree, so these are the store's keys.
        store.keys = keys if isinstance(keys, IndexKeys) else tuple(keys)
        for name, data in initial_files.items():
            if store.storage.size(name) is not None:
                continue
            if defer_keys and isinstance(data, KeysChunk):
                store.deferred_files[name] = data
            else:
                store.storage.put(name, parts_of(data))
    except OSError as error:
        raise StoreError(
            f"{location} cannot be created ({error}): choose an --out that can be written"
        ) from error
    return store


def delete_store(store: Store) -> None:
    """Delete a whole store, commit records first; if it cannot be deleted, nothing is.

    Raises:
        StoreError: there is no store, or it is a symbolic link, whose target would be deleted only
            in part.
    """
    if not store.exists():
        raise StoreError(
            f"--fresh deletes only feature stores, and {store.location} is not one: choose another "
            "--out"
        )
    paths = [] if "://" in store.location else store.format.paths(store.location)
    for path in map(Path, paths):
        if path.is_symlink():
            target = path.resolve()
            raise StoreError(
                f"{path} is a symbolic link to {target}, and --fresh does not follow links: use "
                f"--out {target}, or remove the link"
            )
    done = store.storage.names(store.private_name("done"))
    store.storage.delete([*done, *store.header.files])
    store.storage.delete_all()


def _check_free(store: Store, spec: StoreSpec, initial_files: Mapping[str, Content]) -> None:
    """Refuse a location with files other than those of a store that has lost its spec.json."""
    existing = set(store.storage.names(""))
    existing |= {name for name in initial_files if store.storage.size(name) is not None}
    allowed = {name for name in existing if name.startswith(store.private_name("done/"))}
    allowed.add(store.private_name(SUMMARY_FILE))
    created = Generations(spec.shard_rows, (spec.count,), ("",))
    for shard in range(spec.shards if existing else 0):
        version = created.versions(shard)[0]
        allowed |= {*store.format.shard_files(shard), store.media_name_of(version)}
    if existing - allowed and not store.exists():  # else another process has just created it
        raise other_files_error(store.location)


def _check_same(store: Store, header: StoreHeader, hint: str) -> None:
    store.header.spec.check_same(header.spec, where=store.location, hint=hint)
    if store.header.store != header.store:
        raise CacheMismatchError(f"{store.location} has other samples than the dataset. {hint}")
    if header.spec.content_hash and not store.header.spec.content_hash:
        raise CacheMismatchError(
            f"{store.location} was created without --content-hash: omit the option. {hint}"
        )
