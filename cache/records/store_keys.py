"""Read the keys of a store, and compare them with the digest in its records."""

from collections.abc import Sequence
from typing import Protocol

from epalm.cache.formats.generations import Generations
from epalm.cache.formats.store_format import StoreFormat
from epalm.cache.records.commit_record import FileSums
from epalm.cache.records.growth_record import GrowthRecord
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.storage import Storage
from epalm.errors import CorruptShardError


class KeyedStore(Protocol):
    """A store in one generation."""

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
        CorruptShardError: the keys cannot be read, or are not those of the store.
    """
    name = store.format.keys_file[0]
    checksum = store.library_files[name][1] if name in store.library_files else ""
    try:
        keys, digest = _read(store, checksum)
        if digest != _expected(store) and store.storage.discard_copy(name, checksum):
            keys, digest = _read(store, checksum)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise store.damaged(f"its keys cannot be read ({error})") from error
    if digest != _expected(store):
        raise store.damaged("its keys are not those it was created with")
    return keys


def _read(store: KeyedStore, checksum: str) -> tuple[Sequence[str], str]:
    steps = store.growth[: store.generation + 1]
    keys: Sequence[str] = tuple(key for step in steps for key in step.keys)
    if not keys:
        keys = store.format.read_keys(store.storage, store.spec.count, checksum)
    return keys, store.spec.digest(keys)


def _expected(store: KeyedStore) -> str:
    return store.generations.digests[store.generation]
