"""A feature store: whole shards in, by number; rows out, by key.

Whatever the format, a store has in its private folder

    spec.json         what the vectors are, and size and CRC-32C of the files made with it
    done/00012.json   commit record of shard 12, written after the shard's own files
    media/00012.npy   what its media files were when they were encoded, if that is known
    errors.jsonl      the records that could not be encoded, written when no shard is missing
    put/              files being written

A shard is written whole and counts once its commit record is there, so that a killed writer loses
at most the shard in hand. There is no lock: two writers of one shard produce the same bytes.
"""

import posixpath
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from epalm.cache.dtype_cast import cast_rows
from epalm.cache.formats.store_format import StoreFormat, Tokens, as_bytes, layout_of
from epalm.cache.missing_store import nothing_at
from epalm.cache.records.commit_record import CommitRecord, StoreHeader, errors_text
from epalm.cache.records.media_record import MediaRecord
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.file_extent import FileExtent, read_checked
from epalm.cache.storage.storage import Part, Storage, measure, open_place
from epalm.errors import CacheMismatchError, CorruptShardError, StoreError, UnfinishedStoreError


class Store:
    """A store of any format on any place, finished or not; see the module's head."""

    def __init__(self, location: str, place: Storage, layout: StoreFormat) -> None:
        self.location = location
        self.place = place
        self.layout = layout

    @classmethod
    def at(cls, location: str | Path, store_format: str | None = None) -> Self:
        """The store that is, or will be, at a path or URL; nothing is read.

        Raises:
            UsageError: the format cannot be told, or no library for such URLs is installed.
        """
        layout = layout_of(str(location), store_format)
        root = layout.root(str(location))
        return cls(str(location), open_place(root, layout.private), layout)

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """The store at a path or URL, finished or not.

        Raises:
            StoreError: nothing is there, or it is no feature store, or one that was renamed though
                its format does not allow that.
            CorruptShardError: its spec.json is damaged.
        """
        store = cls.at(location)
        if not store.exists():
            if store.place.names(""):
                raise StoreError(
                    f"found no feature store at {location}, but other files: correct the path; if "
                    f"it was a store, run `epalm-extract repair {location}`, then extract again"
                )
            raise nothing_at(str(location))
        _ = store.head
        return store

    def exists(self) -> bool:
        """Whether there is a spec.json."""
        return self.place.size(self.name("spec.json")) is not None

    @cached_property
    def head(self) -> StoreHeader:
        """Content of spec.json."""
        name = self.name("spec.json")
        try:
            data = self.place.read(name)
        except PermissionError as error:
            raise StoreError(f"{self.location} cannot be read ({error}): give access") from error
        head = StoreHeader.from_bytes(data, f"{self.location}: {name}")
        if set(head.files) != set(self.layout.first_files):
            made = ", ".join(sorted(set(head.files) - set(self.layout.first_files)))
            raise StoreError(
                f"{self.location} was made under another name ({made}), which its files hold: give "
                "all of it that name again, and copy it with `epalm-extract convert`"
            )
        file, key_bytes = self.layout.keys_file
        held = self.place.size(file)
        if held is not None and held < key_bytes * head.spec.count:
            raise StoreError(
                f"{self.location}: {name} says {head.spec.count} records, {file} has room for the "
                f"keys of {held // key_bytes}: copy the store again, or extract again with --fresh"
            )
        return head

    @property
    def spec(self) -> StoreSpec:
        """What the vectors are."""
        return self.head.spec

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of every row."""
        try:
            keys = tuple(self.layout.keys(self.place, self.spec.count))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
            raise CorruptShardError(self._damaged("its keys cannot be read", error)) from error
        if self.spec.digest(keys) != self.head.store:
            raise CorruptShardError(self._damaged("its keys are not those it was made with"))
        return keys

    def name(self, private: str) -> str:
        """Name, relative to the place, of a file of the private folder."""
        return posixpath.join(self.layout.private, private)

    def record_name(self, shard: int) -> str:
        """Name of a shard's commit record."""
        return self.name(f"done/{shard:05d}.json")

    def media_name(self, shard: int) -> str:
        """Name of a shard's media record."""
        return self.name(f"media/{shard:05d}.npy")

    def missing(self) -> list[int]:
        """Shards without a commit record, ascending."""
        done = set(self.place.names(self.name("done")))
        return [n for n in range(self.spec.shards) if self.record_name(n) not in done]

    def has(self, shard: int) -> bool:
        """Whether the shard has a commit record, asked now."""
        return self.place.size(self.record_name(shard)) is not None

    def record(self, shard: int) -> CommitRecord:
        """The shard's commit record.

        Raises:
            UnfinishedStoreError: the shard is missing.
            CorruptShardError: the record is damaged.
            CacheMismatchError: the record belongs to a store of other settings or records.
        """
        name = self.record_name(shard)
        try:
            data = self.place.read(name)
        except FileNotFoundError:
            raise UnfinishedStoreError(
                f"shard {shard} of {self.location} is missing: run the same extraction again"
            ) from None
        record = CommitRecord.from_bytes(data, f"{self.location}: {name}")
        if record.store != self.head.store:
            raise CacheMismatchError(
                f"{self.location}: {name} was written for other settings or other records: run "
                "`epalm-extract repair` on the store, then extract again"
            )
        if not record.is_of(shard, self.layout.shard_files(shard), self.media_name(shard)):
            raise CorruptShardError(self._damaged(f"{name} is the record of another shard"))
        return record

    def failed(self) -> dict[str, str]:
        """Key -> reason of every record of the finished shards that could not be encoded."""
        missing = set(self.missing())
        failed: dict[str, str] = {}
        for shard in range(self.spec.shards):
            if shard not in missing:
                failed |= self.record(shard).errors
        return failed

    def write(
        self,
        shard: int,
        tokens: Tokens,
        errors: Mapping[str, str],
        *,
        media: MediaRecord | None = None,
    ) -> None:
        """Store one whole shard, then its commit record.

        Args:
            shard: its number.
            tokens: (rows of the shard, V, L, D), float32 or the store's dtype; all finite except
                the rows of failed records, which are stored as NaN whatever they hold.
            errors: key -> reason, for each record that could not be encoded.
            media: what the shard's media files were; None if that is not known.

        Raises:
            StoreError: a value that the store's dtype cannot hold, or the disk refused the write.
        """
        rows = self.spec.rows_of(shard)
        keys = self.keys[rows.start : rows.stop]
        wanted = (len(rows), *self.spec.row_shape)
        if tokens.shape != wanted:
            raise StoreError(f"tokens have shape {tokens.shape}, the shard holds {wanted}")
        valid = np.array([key not in errors for key in keys])
        stored = cast_rows(tokens, self.spec.dtype, keys=keys, valid=valid)
        files = self.layout.encode(self.spec, shard, tokens=stored, valid=valid)
        if media is not None:
            files[self.media_name(shard)] = [media.to_bytes()]
        record = CommitRecord(
            rows=len(rows),
            files={name: measure(parts) for name, parts in files.items()},
            errors=dict(sorted(errors.items())),
            store=self.head.store,
            shard=shard,
        )
        for name, parts in files.items():
            self.put(name, parts)
        self.put(self.record_name(shard), [record.to_bytes()])

    def withdraw(self, shard: int) -> None:
        """Make a shard missing, until `write` has stored it again."""
        self.place.delete([self.name("errors.jsonl"), self.record_name(shard)])

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Write one file.

        Raises:
            StoreError: the place refused; says what is kept and how to go on.
        """
        try:
            self.place.put(name, parts)
        except OSError as error:
            raise StoreError(
                f"{name} of {self.location} could not be written ({error}): make room or give "
                "write access, then run the same command again; finished shards are kept"
            ) from error

    def finish(self) -> int:
        """Once no shard is missing, write errors.jsonl; the number of failed records.

        Raises:
            UnfinishedStoreError: shards are missing.
        """
        missing = self.missing()
        if missing:
            raise UnfinishedStoreError(f"{self.location} still misses {len(missing)} shards")
        failed = self.failed()
        self.put(self.name("errors.jsonl"), [errors_text(failed)])
        self.place.sweep()
        return len(failed)

    @property
    def errors_path(self) -> str:
        """Where the failed records of a finished store are listed."""
        return posixpath.join(str(self.place), self.name("errors.jsonl"))

    def extent(self, shard: int) -> FileExtent:
        """Where the vectors of a shard lie in a local file; a remote one is copied first."""
        extent = self.layout.extent(self.spec, shard)
        checksum = self.record(shard).files[extent.name][1]
        return FileExtent(self.place.fetch(extent.name, checksum), extent.offset)

    def check(self, shard: int) -> None:
        """Compare the local file that `extent` names with the commit record.

        Raises:
            UnfinishedStoreError: the shard is missing.
            CorruptShardError: the file does not match the commit record.
        """
        self.read_shard(shard, np.empty((0, *self.spec.row_shape), self.spec.dtype))

    def read_shard(self, shard: int, out: Tokens) -> None:
        """Read one shard straight from its file into `out`, checking the bytes on the way.

        Args:
            shard: its number.
            out: (rows of the shard, V, L, D), the store's dtype, C-contiguous.

        Raises:
            UnfinishedStoreError: the shard is missing.
            CorruptShardError: the file does not match the commit record.
        """
        name = self.layout.extent(self.spec, shard).name
        size, checksum = self.record(shard).files[name]
        found = read_checked(self.extent(shard), as_bytes(out))
        if found != (size, checksum) and self.place.forget(name, checksum):
            found = read_checked(self.extent(shard), as_bytes(out))
        needed = len(self.spec.rows_of(shard)) * self.spec.row_bytes + self.extent(shard).offset
        if found == (size, checksum) and size < needed:
            raise CorruptShardError(self._damaged(f"{name} has {size} bytes, its spec says more"))
        if found == (size, checksum):
            return
        what = "is lost" if found[0] < 0 else f"has {found[0]} bytes with CRC-32C {found[1]}"
        raise CorruptShardError(
            f"{name} of {self.location} {what}, its commit record says {size} bytes with CRC-32C "
            f"{checksum}: run `epalm-extract repair {self.location}`, then extract again"
        )

    def _damaged(self, what: str, error: Exception | None = None) -> str:
        reason = f" ({error})" if error else ""
        return (
            f"{self.location} is damaged, {what}{reason}: run `epalm-extract repair "
            f"{self.location}`, then extract again"
        )
