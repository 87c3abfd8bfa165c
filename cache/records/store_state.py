"""What a store has: its settings, its generations, and which of its shards are finished."""

import posixpath
from functools import cached_property
from pathlib import Path
from typing import Self

from epalm.cache.formats.generations import Generations, ShardVersion
from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.keys.packed_table import PackedTable
from epalm.cache.formats.missing_store import damaged_store_error, no_store_error
from epalm.cache.formats.store_format import StoreFormat, format_of
from epalm.cache.records.commit_record import CommitRecord, FileSums
from epalm.cache.records.growth_record import GrowthRecord, read_finished, read_growth, record_file
from epalm.cache.records.record_listing import RecordListing, confirm_missing, list_records
from epalm.cache.records.record_summary import read_records
from epalm.cache.records.store_header import StoreHeader, read_header
from epalm.cache.records.store_keys import read_keys
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.open_storage import open_storage
from epalm.cache.storage.storage import Storage
from epalm.errors import CacheMismatchError, CorruptShardError, UnfinishedStoreError

LATEST = -1  # in place of a generation's number: the last one when they are first read


class StoreState:
    """The settings and records of one generation of a store.

    By default this is the last finished generation, or the first one if none is finished. So a
    store that is growing is read as it was before, until all its new shards are finished.
    """

    def __init__(
        self,
        location: str,
        storage: Storage,
        store_format: StoreFormat,
        *,
        generation: int | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            location: path or URL.
            storage: files of the store.
            store_format: format of the store.
            generation: number of the generation; None for the default.
        """
        self.location = location
        self.storage = storage
        self.format = store_format
        self._chosen = generation

    @classmethod
    def at(cls, location: str | Path, store_format: str | None = None) -> Self:
        """The store that is, or will be, at a path or URL; nothing is read yet.

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
            CorruptShardError: spec.json or a growth record is damaged.
        """
        store = cls.at(location)
        if not store.exists():
            raise no_store_error(str(location), store.storage.names(""))
        _ = store.spec
        return store

    def exists(self) -> bool:
        """Whether there is a spec.json."""
        return self.storage.size(self.private_name("spec.json")) is not None

    @cached_property
    def header(self) -> StoreHeader:
        """Content of spec.json; see `read_header` for the errors."""
        return read_header(self.location, self.storage, self.format)

    @cached_property
    def growth(self) -> tuple[GrowthRecord, ...]:
        """The growth records, from that of the first generation on; empty if it has not grown.

        Raises:
            CorruptShardError: one is damaged or missing.
        """
        folder = self.growth_folders[0]
        return read_growth(self.storage, folder, location=self.location, header=self.header)

    @property
    def growth_folders(self) -> tuple[str, str]:
        """Names of the folders of the growth records and of their copies."""
        return self.private_name("growth"), self.private_name("growth_copy")

    @cached_property
    def generations(self) -> Generations:
        """All generations of the store; one if it has not grown."""
        first = self.header
        return Generations(
            first.spec.shard_rows,
            tuple(record.count for record in self.growth) or (first.spec.count,),
            tuple(record.store for record in self.growth) or (first.store,),
        )

    @cached_property
    def generation(self) -> int:
        """Number of the opened generation."""
        if self._chosen is not None or not self.growth:
            return self.generations.latest if self._chosen == LATEST else self._chosen or 0
        return read_finished(self.storage, self.finished_name, len(self.growth))

    def in_generation(self, number: int) -> Self:
        """The same store, opened in another generation."""
        return type(self)(self.location, self.storage, self.format, generation=number)

    def latest(self) -> Self:
        """The same store with all its rows, as it is on the disk now, finished or not."""
        return self.in_generation(LATEST)

    @property
    def growing(self) -> int:
        """Number of rows that are being added to the opened generation."""
        return self.generations.counts[-1] - self.spec.count

    @cached_property
    def spec(self) -> StoreSpec:
        """Content and settings of the opened generation."""
        return self.header.spec.grown_to(self.generations.counts[self.generation])

    @property
    def library_files(self) -> FileSums:
        """Size and checksum of the files for other libraries in the opened generation."""
        return self.growth[self.generation].files if self.growth else self.header.files

    keys = cached_property(read_keys)
    """The key of every row; see `read_keys` for the error."""

    @cached_property
    def key_table(self) -> PackedTable:
        """The row of each key."""
        return PackedTable(PackedKeys.packed(self.keys))

    @cached_property
    def later_keys(self) -> frozenset[str]:
        """The keys of the rows that later generations have added."""
        return frozenset(key for step in self.growth[self.generation + 1 :] for key in step.keys)

    def private_name(self, file: str) -> str:
        """Name, relative to the storage, of a file in the private folder."""
        return posixpath.join(self.format.private, file)

    @property
    def finished_name(self) -> str:
        """Name of the file with the number of the last finished generation, if it has grown."""
        return self.private_name("finished.json")

    def growth_record_name(self, generation: int) -> str:
        """Name of a growth record."""
        return posixpath.join(self.growth_folders[0], record_file(generation))

    def commit_record_name(self, shard: int) -> str:
        """Name of the commit record that completes a shard in the opened generation."""
        return self.record_name_of(self.version_of(shard))

    def record_name_of(self, version: ShardVersion) -> str:
        """Name of the commit record of a version of a shard."""
        return self.private_name(f"done/{version.name}.json")

    def media_table_name(self, shard: int) -> str:
        """Name of the media table of a finished shard."""
        return self.media_name_of(self.finished_version(shard))

    def media_name_of(self, version: ShardVersion) -> str:
        """Name of the media table of a version of a shard."""
        return self.private_name(f"media/{version.name}.npy")

    def version_of(self, shard: int) -> ShardVersion:
        """The version of a shard with exactly the rows of the opened generation."""
        return self.generations.version(shard, len(self.spec.rows_of(shard)))

    def versions(self, shard: int) -> list[ShardVersion]:
        """Every version of a shard, ascending."""
        return self.generations.versions(shard)

    def finished_version(self, shard: int) -> ShardVersion:
        """The finished version of a shard that has the rows of the opened generation.

        It may have more rows. If there is none, the version with exactly these rows.
        """
        exact = self.version_of(shard)
        longer = [version for version in self.versions(shard) if version.rows > exact.rows]
        for version in (exact, *reversed(longer)) if longer else ():
            if self.storage.size(self.record_name_of(version)) is not None:
                return version
        return exact

    def list_records(self) -> RecordListing:
        """Which shards have a commit record at this moment, from one listing."""
        files = self.storage.list_files(folder := self.private_name("done"))
        listing = list_records(self.spec, self.generations, files, folder=folder)
        return confirm_missing(
            listing, lambda shard: self.finished_version(shard) if self.has_shard(shard) else None
        )

    def missing_shards(self) -> list[int]:
        """Numbers of the shards without a commit record, ascending."""
        return self.list_records().missing

    def has_shard(self, shard: int) -> bool:
        """Whether the shard has a commit record at this moment."""
        return self.storage.size(self.record_name_of(self.finished_version(shard))) is not None

    def shorter_generation(self, shard: int) -> Self | None:
        """The store in the last generation in which a missing shard is finished with fewer rows.

        None if the shard has no finished version.
        """
        rows = len(self.spec.rows_of(shard))
        for version in reversed(self.versions(shard)):
            name = self.record_name_of(version)
            if version.rows < rows and self.storage.size(name) is not None:
                return self.in_generation(self.generations.first_with(shard, version.rows))
        return None

    def missing_rows(self, shard: int) -> int:
        """Number of rows of a missing shard that no shorter version of it has."""
        shorter = self.shorter_generation(shard)
        present = len(shorter.spec.rows_of(shard)) if shorter else 0
        return len(self.spec.rows_of(shard)) - present

    def check_complete(self) -> RecordListing:
        """The listing of the commit records of a store without missing shards.

        Raises:
            UnfinishedStoreError: gives the number of missing shards and the command to run.
        """
        listing = self.list_records()
        if missing := len(listing.missing):
            raise UnfinishedStoreError(
                f"{self.location} is incomplete, {missing} of {self.spec.shards} shards are "
                "missing: run the same `epalm-extract` command again to complete it"
            )
        return listing

    def commit_record(self, shard: int) -> CommitRecord:
        """The shard's commit record; see `finished` for the errors."""
        return self.finished(shard)[1]

    def finished(self, shard: int) -> tuple[ShardVersion, CommitRecord]:
        """The finished version of a shard and its commit record.

        Raises:
            UnfinishedStoreError: the shard is missing.
            CorruptShardError: the record is damaged.
            CacheMismatchError: the record belongs to a store of other settings or samples.
        """
        version = self.finished_version(shard)
        if record := self.record_of(shard, version):
            return version, record
        if self.finished_version(shard) != version:  # a growth has just been finished
            return self.finished(shard)
        raise UnfinishedStoreError(
            f"shard {shard} of {self.location} is missing: run the same extraction again"
        )

    def record_of(self, shard: int, version: ShardVersion) -> CommitRecord | None:
        """The commit record of a version of a shard; None if it is missing. See `finished`."""
        try:
            data = self.storage.read(self.record_name_of(version))
        except FileNotFoundError:
            return None
        return self.parse_record(shard, version, data)

    def parse_record(self, shard: int, version: ShardVersion, data: bytes) -> CommitRecord:
        """The commit record of a version of a shard from its content; see `finished`."""
        name = self.record_name_of(version)
        record = CommitRecord.from_bytes(data, f"{self.location}: {name}")
        if record.store != self.generations.digest_of(shard, version.rows):
            raise CacheMismatchError(
                f"{self.location}: {name} was written for other settings or samples: run "
                "`epalm-extract repair` on the store, then extract again"
            )
        files = self.format.shard_files(shard, version.name)
        if not record.describes(shard, files, self.media_name_of(version)):
            raise self.damaged(f"{name} is the record of another shard")
        return record

    def failed_samples(self, listing: RecordListing | None = None) -> dict[str, str]:
        """Key -> reason of every sample of the (just listed) finished shards that failed."""
        records = read_records(self, listing or self.list_records())
        failed = {key: why for record in records.values() for key, why in record.errors.items()}
        if self.growing:
            return {key: why for key, why in failed.items() if key not in self.later_keys}
        return failed

    def damaged(self, problem: str) -> CorruptShardError:
        """The error for a store with a damaged file."""
        return damaged_store_error(self.location, problem)
