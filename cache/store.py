"""A feature store: written shard by shard, read by shard or, through a reader, by key.

Besides its shards, a store of either format has these files in its private folder:

    spec.json           settings of the features, and size and CRC-32C of the initial files
    growth/00001.jsonl  samples that were added later, see `epalm.cache.records.growth_record`
    done/00012.json     commit record of shard 12, written after the shard's own files
    media/00012.npy     media table: state of the shard's media files when they were encoded
    errors.jsonl        samples that could not be encoded, written once no shard is missing
    summary.jsonl       copy of what the commit records say, only on object stores
    put/                temporary files of writers

A shard is written whole and exists once it has a commit record, so a killed writer loses at most
its current shard. There is no lock: two writers of the same shard produce the same bytes.

Rows that are added to a store come after its other rows. Finished shards are never written again,
except the last one if it is not full: it becomes a version with more rows. In Zarr that replaces
its file by one that begins with the same bytes, so the file also proves to be the earlier version
(`StoreFormat.first_rows`). In HDF5 each version has its own file.
"""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from epalm.cache.formats.dtype_cast import cast_features
from epalm.cache.formats.generations import ShardVersion
from epalm.cache.formats.store_format import Features, as_bytes, parts_of
from epalm.cache.index.vlen_keys import KeysChunk
from epalm.cache.records.commit_record import CommitRecord, errors_text
from epalm.cache.records.growth_record import finished_bytes
from epalm.cache.records.media_table import MediaTable
from epalm.cache.records.record_summary import read_records, write_summary
from epalm.cache.records.store_state import StoreState
from epalm.cache.storage.checksum import Part, size_and_checksum
from epalm.cache.storage.file_extent import FileExtent, read_checked
from epalm.cache.storage.storage import has_content
from epalm.errors import StoreError


class Store(StoreState):
    """A store of any format on any storage, finished or not."""

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
        rows, version = self.spec.rows_of(shard), self.version_of(shard)
        keys = self.keys[rows.start : rows.stop]
        shape = (len(rows), *self.spec.row_shape)
        if features.shape != shape:
            raise StoreError(f"features have shape {features.shape}, the shard needs {shape}")
        valid = np.array([key not in errors for key in keys])
        stored = cast_features(features, self.spec.dtype, keys=keys, valid=valid)
        files = self.format.encode_shard(
            self.spec, shard, features=stored, valid=valid, version=version.name
        )
        if media is not None:
            files[self.media_name_of(version)] = [media.to_bytes()]
        record = CommitRecord(
            rows=len(rows),
            files={name: size_and_checksum(parts) for name, parts in files.items()},
            errors=dict(sorted(errors.items())),
            store=self.generations.digest_of(shard, len(rows)),
            shard=shard,
        )
        for name, parts in files.items():
            self._put(name, parts)
        self._put(self.commit_record_name(shard), [record.to_bytes()])
        if len(rows) < self.spec.shard_rows or self.growth:
            self.latest().withdraw_contradicted(shard)

    def withdraw_contradicted(self, shard: int) -> None:
        """Make versions of a shard missing whose file another process has overwritten.

        That takes a process that extracts a dataset of which another one knows more samples.
        """
        versions = self.versions(shard)
        for version in versions if len(versions) > 1 else ():
            record = self.record_of(shard, version)
            for name, expected in record.files.items() if record else ():
                same = self.storage.size(name) and self.storage.checksum(name) == expected[1]
                if not same and not self.has_grown(shard, version, name, expected):
                    self.storage.delete([self.record_name_of(version)])

    def uncommit_shard(self, shard: int) -> None:
        """Make a shard missing, in all its versions, until `write_shard` stores it again."""
        records = [self.record_name_of(version) for version in self.versions(shard)]
        self.storage.delete([self.private_name("errors.jsonl"), *records])

    def _put(self, name: str, parts: Sequence[Part]) -> None:
        try:
            self.storage.put(name, parts)
        except OSError as error:
            raise StoreError(
                f"{name} of {self.location} could not be written ({error}): free some space or "
                "give write access, then run the same command again; finished shards are kept"
            ) from error

    def _put_changed(self, name: str, data: bytes) -> None:
        """Write a file, unless it is there with this content: a finished store may be read-only."""
        if not has_content(self.storage, name, data):
            self._put(name, [data])

    def finish(self) -> int:
        """Write errors.jsonl, which marks the store as finished; nothing if that is done already.

        After a growth, the files for other libraries get the new number of rows before, and the
        shorter versions of shards are deleted after that.

        Returns:
            The number of samples that could not be encoded.

        Raises:
            UnfinishedStoreError: shards are missing.
        """
        failed = self.failed_samples(self.check_complete())
        self.write_deferred_files()
        if self.latest().spec.count > self.spec.count:  # another process has added rows
            return len(failed)
        if self.growth:
            self.write_library_files()
        self._put_changed(self.private_name("errors.jsonl"), errors_text(failed))
        if self.growth:
            self._put_changed(self.finished_name, finished_bytes(self.generation))
            self._delete_shorter_versions()
        self.write_summary()
        self.storage.delete_partial_writes()
        return len(failed)

    @cached_property
    def deferred_files(self) -> dict[str, KeysChunk]:
        """Files for other libraries that are not written yet, see `create_store`."""
        return {}

    def write_deferred_files(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Write the files that `create_store` has left, unless another process has done so.

        Args:
            stopped: whether to stop and leave the files; called again and again meanwhile.

        Raises:
            StoreError: a file cannot be written.
        """
        for name, chunk in self.deferred_files.items():
            if self.storage.size(name) is not None or stopped():
                continue
            try:
                self._put(name, chunk.until(stopped))
            except StoreError:
                if not stopped():
                    raise

    def write_summary(self) -> None:
        """Update the summary of the commit records, where one saves requests.

        See `epalm.cache.records.record_summary`.
        """
        listing = self.list_records()
        if listing.md5:
            write_summary(self, listing, read_records(self, listing))

    def write_library_files(self) -> None:
        """Write the files for other libraries that are not those of the opened generation."""
        different = [
            name
            for name, (size, checksum) in self.library_files.items()
            if self.storage.size(name) != size or self.storage.checksum(name) != checksum
        ]
        if not different:
            return
        grown = self.generations.until(self.generation) if self.growth else None
        files = self.format.encode_initial_files(self.spec, self.keys, grown)
        for name, data in files.items():
            if name in different:
                self._put(name, parts_of(data))

    def _delete_shorter_versions(self) -> None:
        """Delete what the opened generation does not need of earlier ones, records first.

        A writer that was killed may have left files of a version without its record.
        """
        spec = self.spec
        present = set(self.storage.names(""))
        outdated = [
            (shard, version)
            for shard in range(spec.shards)
            for version in self.versions(shard)
            if version.rows < len(spec.rows_of(shard))
        ]
        records = {self.record_name_of(version) for _, version in outdated}
        self.storage.delete(sorted(records & present))
        kept = {name for shard in range(spec.shards) for name in self._files_of(shard)}
        files = {name for shard, version in outdated for name in self._files_of(shard, version)}
        earlier = set(self.format.earlier_files) - self.library_files.keys()
        self.storage.delete(sorted((files - kept | earlier) & present))

    def _files_of(self, shard: int, version: ShardVersion | None = None) -> tuple[str, ...]:
        version = version or self.version_of(shard)
        files = self.format.shard_files(shard, version.name)
        return (*files, self.media_name_of(version))

    @property
    def errors_path(self) -> str:
        """Path or URL of errors.jsonl."""
        return posixpath.join(str(self.storage), self.private_name("errors.jsonl"))

    def extent(self, shard: int) -> FileExtent:
        """Position of a shard's features in a local file; a remote file is copied first."""
        version, record = self.finished(shard)
        extent = self.format.extent(self.spec, shard, version)
        checksum = record.files[extent.name][1]
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
        version, record = self.finished(shard)
        name = self.format.shard_files(shard, version.name)[0]
        size, checksum = expected = record.files[name]
        actual = read_checked(self.extent(shard), as_bytes(out))
        if actual != expected and self.storage.discard_copy(name, checksum):
            actual = read_checked(self.extent(shard), as_bytes(out))
        if actual == expected or self.has_grown(shard, version, name, expected):
            row_bytes = len(self.spec.rows_of(shard)) * self.spec.row_bytes
            if size < row_bytes + self.extent(shard).offset:
                raise self.damaged(f"{name} has {size} bytes, its spec needs more")
            return
        if self.finished_version(shard) != version:  # a growth has just been finished
            self.read_shard(shard, out)
            return
        state = "is missing" if actual[0] < 0 else f"has {actual[0]} bytes with CRC-32C {actual[1]}"
        raise self.damaged(
            f"{name} {state}, but its commit record has {size} bytes with CRC-32C {checksum}"
        )

    def has_grown(
        self, shard: int, version: ShardVersion, name: str, expected: tuple[int, str]
    ) -> bool:
        """Whether a file is that of a version of a shard, with more rows added to it since then.

        Args:
            shard: shard number.
            version: the version.
            name: name of the file.
            expected: size and checksum of the file in the commit record of the version.
        """
        if version == self.versions(shard)[-1]:
            return False
        try:
            data = self.storage.read(name)
        except FileNotFoundError:
            return False
        return self.format.first_rows(self.spec, name, data, rows=version.rows) == expected
