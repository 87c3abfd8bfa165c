"""A feature store: written shard by shard, read by shard or, through a reader, by key.

Besides its shards, a store of either format has these files in its private folder:

    spec.json         settings of the features, and size and CRC-32C of the initial files
    done/00012.json   commit record of shard 12, written after the shard's own files
    media/00012.npy   media table: state of the shard's media files when they were encoded
    errors.jsonl      samples that could not be encoded, written once no shard is missing
    put/              temporary files of writers

A shard is written whole and exists once it has a commit record, so a killed writer loses at most
its current shard. There is no lock: two writers of the same shard produce the same bytes.
"""

import posixpath
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from epalm.cache.formats.dtype_cast import cast_features
from epalm.cache.formats.missing_store import missing_store_error, other_files_error
from epalm.cache.formats.store_format import Features, StoreFormat, as_bytes, format_of
from epalm.cache.records.commit_record import CommitRecord, errors_text
from epalm.cache.records.media_table import MediaTable
from epalm.cache.records.store_header import StoreHeader, read_header
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksum import Part, size_and_checksum
from epalm.cache.storage.file_extent import FileExtent, read_checked
from epalm.cache.storage.open_storage import open_storage
from epalm.cache.storage.storage import Storage
from epalm.errors import CacheMismatchError, CorruptShardError, StoreError, UnfinishedStoreError


class Store:
    """A store of any format on any storage, finished or not."""

    def __init__(self, location: str, storage: Storage, store_format: StoreFormat) -> None:
        self.location = location
        self.storage = storage
        self.format = store_format

    @classmethod
    def at(cls, location: str | Path, store_format: str | None = None) -> Self:
        """The store that is, or will be, at a path or URL; nothing is read.

        Raises:
            UsageError: the format is unknown, or no library for such URLs is installed.
        """
        file_format = format_of(str(location), store_format)
        storage = open_storage(file_format.root(str(location)), file_format.private)
        return cls(str(location), storage, file_format)

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """The existing store at a path or URL, finished or not.

        Raises:
            StoreError: nothing is there, or something else, or a store that was renamed although
                its format does not allow that.
            CorruptShardError: spec.json is damaged.
        """
        store = cls.at(location)
        if not store.exists():
            if store.storage.names(""):
                raise other_files_error(str(location))
            raise missing_store_error(str(location))
        _ = store.header
        return store

    def exists(self) -> bool:
        """Whether there is a spec.json."""
        return self.storage.size(self.private_name("spec.json")) is not None

    @cached_property
    def header(self) -> StoreHeader:
        """Content of spec.json; see `read_header` for the errors."""
        return read_header(self.location, self.storage, self.format)

    @property
    def spec(self) -> StoreSpec:
        """Content and settings of the store."""
        return self.header.spec

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of every row."""
        try:
            keys = tuple(self.format.read_keys(self.storage, self.spec.count))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
            raise self._damaged(f"its keys cannot be read ({error})") from error
        if self.spec.digest(keys) != self.header.store:
            raise self._damaged("its keys are not those it was created with")
        return keys

    def private_name(self, file: str) -> str:
        """Name, relative to the storage, of a file in the private folder."""
        return posixpath.join(self.format.private, file)

    def commit_record_name(self, shard: int) -> str:
        """Name of a shard's commit record."""
        return self.private_name(f"done/{shard:05d}.json")

    def media_table_name(self, shard: int) -> str:
        """Name of a shard's media table."""
        return self.private_name(f"media/{shard:05d}.npy")

    def missing_shards(self) -> list[int]:
        """Numbers of the shards without a commit record, ascending."""
        done = set(self.storage.names(self.private_name("done")))
        return [n for n in range(self.spec.shards) if self.commit_record_name(n) not in done]

    def has_shard(self, shard: int) -> bool:
        """Whether the shard has a commit record at this moment."""
        return self.storage.size(self.commit_record_name(shard)) is not None

    def check_complete(self) -> None:
        """Refuse a store with missing shards.

        Raises:
            UnfinishedStoreError: gives the number of missing shards and the command to run.
        """
        missing = self.missing_shards()
        if missing:
            raise UnfinishedStoreError(
                f"{self.location} is incomplete, {len(missing)} of {self.spec.shards} shards are "
                "missing: run the same `epalm-extract` command again to complete it"
            )

    def commit_record(self, shard: int) -> CommitRecord:
        """The shard's commit record.

        Raises:
            UnfinishedStoreError: the shard is missing.
            CorruptShardError: the record is damaged.
            CacheMismatchError: the record belongs to a store of other settings or samples.
        """
        name = self.commit_record_name(shard)
        try:
            data = self.storage.read(name)
        except FileNotFoundError:
            raise UnfinishedStoreError(
                f"shard {shard} of {self.location} is missing: run the same extraction again"
            ) from None
        record = CommitRecord.from_bytes(data, f"{self.location}: {name}")
        if record.store != self.header.store:
            raise CacheMismatchError(
                f"{self.location}: {name} was written for other settings or samples: run "
                "`epalm-extract repair` on the store, then extract again"
            )
        files = self.format.shard_files(shard)
        if not record.describes(shard, files, self.media_table_name(shard)):
            raise self._damaged(f"{name} is the record of another shard")
        return record

    def failed_samples(self) -> dict[str, str]:
        """Key -> reason of every sample of the finished shards that could not be encoded."""
        missing = set(self.missing_shards())
        failed: dict[str, str] = {}
        for shard in range(self.spec.shards):
            if shard not in missing:
                failed |= self.commit_record(shard).errors
        return failed

    def write_shard(
        self,
        shard: int,
        features: Features,
        errors: Mapping[str, str],
        *,
        media: MediaTable | None = None,
    ) -> None:
        """Store one whole shard, then its commit record.

        Args:
            shard: shard number.
            features: (rows of the shard, V, L, D), float32 or the store's dtype. All values must be
                finite, except in the rows of failed samples, which are stored as NaN.
            errors: key -> reason, for each sample that could not be encoded.
            media: state of the shard's media files; None if it is unknown.

        Raises:
            StoreError: the store's dtype cannot represent a value, or the write failed.
        """
        rows = self.spec.rows_of(shard)
        keys = self.keys[rows.start : rows.stop]
        shape = (len(rows), *self.spec.row_shape)
        if features.shape != shape:
            raise StoreError(f"features have shape {features.shape}, the shard needs {shape}")
        valid = np.array([key not in errors for key in keys])
        stored = cast_features(features, self.spec.dtype, keys=keys, valid=valid)
        files = self.format.encode_shard(self.spec, shard, features=stored, valid=valid)
        if media is not None:
            files[self.media_table_name(shard)] = [media.to_bytes()]
        record = CommitRecord(
            rows=len(rows),
            files={name: size_and_checksum(parts) for name, parts in files.items()},
            errors=dict(sorted(errors.items())),
            store=self.header.store,
            shard=shard,
        )
        for name, parts in files.items():
            self._put(name, parts)
        self._put(self.commit_record_name(shard), [record.to_bytes()])

    def uncommit_shard(self, shard: int) -> None:
        """Make a shard missing, until `write_shard` stores it again."""
        self.storage.delete([self.private_name("errors.jsonl"), self.commit_record_name(shard)])

    def _put(self, name: str, parts: Sequence[Part]) -> None:
        try:
            self.storage.put(name, parts)
        except OSError as error:
            raise StoreError(
                f"{name} of {self.location} could not be written ({error}): free some space or "
                "give write access, then run the same command again; finished shards are kept"
            ) from error

    def finish(self) -> int:
        """Write errors.jsonl, which marks the store as finished.

        Returns:
            The number of samples that could not be encoded.

        Raises:
            UnfinishedStoreError: shards are missing.
        """
        self.check_complete()
        failed = self.failed_samples()
        self._put(self.private_name("errors.jsonl"), [errors_text(failed)])
        self.storage.delete_partial_writes()
        return len(failed)

    @property
    def errors_path(self) -> str:
        """Path or URL of errors.jsonl."""
        return posixpath.join(str(self.storage), self.private_name("errors.jsonl"))

    def extent(self, shard: int) -> FileExtent:
        """Position of a shard's features in a local file; a remote file is copied first."""
        extent = self.format.extent(self.spec, shard)
        checksum = self.commit_record(shard).files[extent.name][1]
        return FileExtent(self.storage.fetch(extent.name, checksum), extent.offset)

    def check_shard(self, shard: int) -> None:
        """Compare a shard's file with its commit record; see `read_shard` for the errors."""
        self.read_shard(shard, np.empty((0, *self.spec.row_shape), self.spec.dtype))

    def load_shard(self, shard: int) -> Features:
        """The features of a shard, (rows, V, L, D).

        Memory is allocated only after the file is known to be large enough for its rows, so a spec
        that claims more rows than there are uses none.

        Raises:
            UnfinishedStoreError: the shard is missing.
            CorruptShardError: the file does not match the commit record, or both are too small.
        """
        rows, extent = len(self.spec.rows_of(shard)), self.extent(shard)
        size = extent.path.stat().st_size if extent.path.is_file() else 0
        if size - extent.offset < rows * self.spec.row_bytes:
            self.check_shard(shard)  # raises
        features = np.empty((rows, *self.spec.row_shape), self.spec.dtype)
        self.read_shard(shard, features)
        return features

    def read_shard(self, shard: int, out: Features) -> None:
        """Read a shard from its file into `out`, and compare it with the commit record.

        Args:
            shard: shard number.
            out: (rows of the shard, V, L, D), in the store's dtype, C-contiguous.

        Raises:
            UnfinishedStoreError: the shard is missing.
            CorruptShardError: the file does not match the commit record.
        """
        name = self.format.extent(self.spec, shard).name
        size, checksum = expected = self.commit_record(shard).files[name]
        actual = read_checked(self.extent(shard), as_bytes(out))
        if actual != expected and self.storage.discard_copy(name, checksum):
            actual = read_checked(self.extent(shard), as_bytes(out))
        if actual == expected:
            row_bytes = len(self.spec.rows_of(shard)) * self.spec.row_bytes
            if size < row_bytes + self.extent(shard).offset:
                raise self._damaged(f"{name} has {size} bytes, its spec needs more")
            return
        state = "is missing" if actual[0] < 0 else f"has {actual[0]} bytes with CRC-32C {actual[1]}"
        raise self._damaged(
            f"{name} {state}, but its commit record has {size} bytes with CRC-32C {checksum}"
        )

    def _damaged(self, problem: str) -> CorruptShardError:
        return CorruptShardError(
            f"{self.location} is damaged, {problem}: run `epalm-extract repair {self.location}`, "
            "then extract again"
        )
