"""Read the keys of a store, and compare them with the digest in its records."""

import posixpath
from collections.abc import Sequence
from typing import Protocol

from epalm.cache.formats.generations import Generations
from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.store_format import StoreFormat
from epalm.cache.records.commit_record import FileSums
from epalm.cache.records.growth_record import GrowthRecord
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.storage import Storage
from epalm.errors import CorruptShardError, UnfinishedStoreError

_NOT_WRITTEN = (
    "the keys of {} are not written yet, which the first process of its extraction does while it "
    "encodes: wait for it, or run the same extraction again if it was stopped"
)


class KeyedStore(Protocol):
    """A store in one generation."""

    location: str
    storage: Storage
    format: StoreFormat

    @property
    def spec(self) -> StoreSpec:
        """Spec of the generation."""

    @property
    def generation(self) -> int:
        """Number of the generation."""

    @property
    def generations(self) -> Generations:
        """All generations."""

    @property
    def growth(self) -> Sequence[GrowthRecord]:
        """The growth records."""

    @property
    def library_files(self) -> FileSums:
        """Size and checksum of the files for other libraries."""

    def damaged(self, problem: str) -> CorruptShardError:
        """The error for a damaged file."""


def read_keys(store: KeyedStore) -> Sequence[str]:
    """The key of every row, packed unless the store has grown.

    Raises:
        UnfinishedStoreError: they are not written yet.
        CorruptShardError: the keys cannot be read, or are not those of the store.
    """
    name = store.format.keys_file[0]
    checksum = store.library_files[name][1] if name in store.library_files else ""
    try:
        keys = _read(store, checksum)
        intact = has_own_keys(store, keys)
        if not intact and store.storage.discard_copy(name, checksum):
            keys = _read(store, checksum)
            intact = has_own_keys(store, keys)
    except FileNotFoundError as error:
        finished = posixpath.join(store.format.private, "errors.jsonl")
        if store.storage.size(name) is None and store.storage.size(finished) is None:
            raise UnfinishedStoreError(_NOT_WRITTEN.format(store.location)) from error
        raise store.damaged(f"its keys cannot be read ({error})") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise store.damaged(f"its keys cannot be read ({error})") from error
    if not intact:
        raise store.damaged("its keys are not those it was created with")
    return keys


def has_own_keys(store: KeyedStore, keys: Sequence[str]) -> bool:
    """Whether these are the keys that the store was created with.

    If their file has the checksum that was recorded with the digest of the keys, the digest itself
    is left to `epalm-extract verify`: it takes fifty times as long.
    """
    if isinstance(keys, PackedKeys) and keys.checked:
        return True
    return store.spec.digest(keys) == digest_of_keys(store)


def digest_of_keys(store: KeyedStore) -> str:
    """The recorded digest of settings and keys, see `StoreSpec.digest`."""
    return store.generations.digests[store.generation]


def _read(store: KeyedStore, checksum: str) -> Sequence[str]:
    steps = store.growth[: store.generation + 1]
    if keys := tuple(key for step in steps for key in step.keys):
        return keys
    return store.format.read_keys(
        store.storage, store.spec.count, checksum, name=digest_of_keys(store)
    )
