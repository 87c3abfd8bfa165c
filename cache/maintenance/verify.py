"""Find damaged files of a store, and delete them so that extraction writes them again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from epalm.cache.formats.generations import ShardVersion
from epalm.cache.records.commit_record import CommitRecord, FileSums, errors_text
from epalm.cache.records.growth_record import (
    copy_records,
    damaged_records,
    lost_records,
    read_finished,
)
from epalm.cache.records.store_keys import digest_of_keys
from epalm.cache.store import Store
from epalm.errors import CorruptShardError, UnfinishedStoreError

MISSING = "is missing"

OTHER_KEYS = "has other keys than the digest in spec.json"

CHANGED = "has changed bytes"

OUTDATED = "does not count the rows yet that were added to the store"

CHECK_THREADS = 8
"""Shards that are checked at once."""

MAX_GENERATIONS = 10**9
"""More generations than a store can have."""


@dataclass(frozen=True)
class VerifyIssue:
    """A problem with one file of a store.

    Attributes:
        name: name of the file, relative to the storage.
        found: what is wrong with it; a key of the commands' JSON output.
        remove: the files to delete so that the same extraction writes them again.
    """

    name: str
    found: str
    remove: tuple[str, ...]


def verify(store: Store) -> Iterator[VerifyIssue]:
    """Compare presence and size of every file with spec.json and the commit records.

    Missing shards are not an issue; see `Store.missing_shards`.
    """
    return _verify(_SizeCheck(store))


def verify_deep(store: Store) -> Iterator[VerifyIssue]:
    """Compare presence, size and checksum of every file."""
    return _verify(_ChecksumCheck(store))


def repair(store: Store) -> list[VerifyIssue]:
    """Find damaged files as `verify_deep` does and delete them; the issues found.

    The same extraction then writes exactly these files again. errors.jsonl, which is derived from
    the commit records, is deleted too. A damaged growth record is replaced by its copy; call this
    again then, since the other files could not be checked without it. No writer may be active.
    """
    issues = list(verify_deep(store))
    if issues:
        store.storage.delete([store.private_name("errors.jsonl")])
    for issue in issues:
        store.storage.delete(issue.remove)
    copy_records(store.storage, *store.growth_folders)
    store.storage.delete_partial_writes()
    return issues


class _SizeCheck:
    """Compares the size of files."""

    def __init__(self, store: Store) -> None:
        """List all files; one that was written since then is examined by itself."""
        self.store = store
        self._listed = store.storage.list_files("")

    def problem(self, name: str, size: int, checksum: str) -> str:
        """What is wrong with a file; "" if nothing."""
        del checksum
        listed = self._listed.get(name)
        if listed and listed.size == size:
            return ""
        actual = self.store.storage.size(name)
        if actual is None:
            return MISSING
        return "" if actual == size else f"has {actual} bytes, expected {size}"

    def has_other_keys(self) -> bool:
        """Whether the keys, whose file is sound, are others than when the store was created."""
        return False


class _ChecksumCheck(_SizeCheck):
    """Compares the size of files, then their checksum; and the keys with their digest."""

    def problem(self, name: str, size: int, checksum: str) -> str:
        """What is wrong with a file; "" if nothing."""
        if size_problem := super().problem(name, size, checksum):
            return size_problem
        actual = self.store.storage.checksum(name)
        return "" if actual == checksum else f"has CRC-32C {actual}, expected {checksum}"

    def has_other_keys(self) -> bool:
        """Compare the digest; keys that cannot be read are an issue of their file, if any."""
        try:
            keys = self.store.keys
        except (CorruptShardError, UnfinishedStoreError):
            return False
        return self.store.spec.digest(keys) != digest_of_keys(self.store)


def _verify(check: _SizeCheck) -> Iterator[VerifyIssue]:
    store = check.store
    growth_issues = list(_growth_issues(store))
    yield from growth_issues
    if growth_issues:  # what else belongs to the store is unknown until they are repaired
        return
    header_issue = _header_issue(store)
    if header_issue:
        yield header_issue
    else:
        yield from _library_file_issues(check)
        if check.has_other_keys():
            header = store.private_name("spec.json")
            remove = (header, *store.format.initial_files)
            yield VerifyIssue(store.format.keys_file[0], OTHER_KEYS, remove)
    sound = True
    for issue in _record_issues(check, header_sound=not header_issue):
        sound = False
        yield issue
    if not header_issue and sound:
        yield from _errors_list_issues(store)


def _growth_issues(store: Store) -> Iterator[VerifyIssue]:
    """Check the growth records, and the number of the last finished generation."""
    for name in damaged_records(store.storage, store.growth_folders):
        yield VerifyIssue(name, CHANGED, (name,))
    for name in lost_records(store.storage, store.growth_folders):
        yield VerifyIssue(name, MISSING, ())
    try:
        read_finished(store.storage, store.finished_name, MAX_GENERATIONS)
    except CorruptShardError:
        yield VerifyIssue(store.finished_name, CHANGED, (store.finished_name,))


def _library_file_issues(check: _SizeCheck) -> Iterator[VerifyIssue]:
    """Compare the files for other libraries with those of the opened generation.

    Those of another generation are sound: they are exchanged one by one when a growth is finished.
    """
    store = check.store
    for name, problem in _damaged_files(check, store.library_files):
        keys_missing = problem == MISSING and name == store.format.keys_file[0]
        if keys_missing and store.missing_shards():  # a process writes them while it encodes
            continue
        others = [record.files[name] for record in store.growth if name in record.files]
        if all(check.problem(name, *expected) for expected in others):
            yield VerifyIssue(name, problem, (name,))
    if store.growing and not store.latest().missing_shards():
        yield VerifyIssue(store.finished_name, OUTDATED, ())


def _header_issue(store: Store) -> VerifyIssue | None:
    """Without an intact spec.json, all files but the shards are written again."""
    name = store.private_name("spec.json")
    try:
        _ = store.header
    except CorruptShardError:
        problem = CHANGED
    except FileNotFoundError:
        problem = MISSING
    else:
        return None
    return VerifyIssue(name, problem, (name, *store.format.initial_files))


def _record_issues(check: _SizeCheck, *, header_sound: bool) -> Iterator[VerifyIssue]:
    """Check every commit record and its files, several at a time."""
    storage = check.store.storage
    names = storage.names(check.store.private_name("done"))
    threads = ThreadPoolExecutor(CHECK_THREADS, thread_name_prefix="epalm-verify")
    examine = partial(_shard_issues, check, header_sound=header_sound)
    try:
        for issues in threads.map(examine, names, storage.read_many(names)):
            yield from issues
    finally:
        threads.shutdown(cancel_futures=True)


def _shard_issues(
    check: _SizeCheck, name: str, data: bytes | None, *, header_sound: bool
) -> list[VerifyIssue]:
    """The problems of a commit record with this content, and of its files."""
    if data is None:  # deleted since the listing
        return []
    return list(_find_shard_issues(check, name, data, header_sound=header_sound))


def _find_shard_issues(
    check: _SizeCheck, name: str, data: bytes, *, header_sound: bool
) -> Iterator[VerifyIssue]:
    store = check.store
    found = _shard_version(name, store, header_sound=header_sound)
    if found is None:
        yield VerifyIssue(name, "is not a commit record of this store", (name,))
        return
    shard, version = found
    try:
        record = CommitRecord.from_bytes(data, name)
    except CorruptShardError:
        yield VerifyIssue(name, CHANGED, (name,))
        return
    files = store.format.shard_files(shard, version.name)
    if not record.describes(shard, files, store.media_name_of(version)):
        yield VerifyIssue(name, "is the record of another shard", (name,))
        return
    if header_sound and record.store != store.generations.digest_of(shard, version.rows):
        yield VerifyIssue(name, "was written for other settings or samples", (name,))
    for file, problem in _damaged_files(check, record.files):
        if header_sound and store.has_grown(shard, version, file, record.files[file]):
            continue
        yield VerifyIssue(file, problem, (file, name))


def _shard_version(
    record_name: str, store: Store, *, header_sound: bool
) -> tuple[int, ShardVersion] | None:
    """The shard and version whose commit record has this name; None if there is none."""
    name = record_name.removesuffix(".json").rpartition("/")[2]
    shard_digits = name.partition("-")[0]
    if not (shard_digits.isascii() and shard_digits.isdecimal()):
        return None
    shard = int(shard_digits)
    unknown = [ShardVersion(0, name)]  # without spec.json
    versions = store.versions(shard) if header_sound else unknown
    version = next((version for version in versions if version.name == name), None)
    if version is None or store.record_name_of(version) != record_name:
        return None
    return shard, version


def _errors_list_issues(store: Store) -> Iterator[VerifyIssue]:
    """Compare errors.jsonl, which is written last, with the commit records."""
    name = store.private_name("errors.jsonl")
    missing = store.missing_shards()
    if missing and store.storage.size(name) is not None:
        for shard in missing:
            yield VerifyIssue(store.commit_record_name(shard), MISSING, (name,))
    elif not missing and store.storage.size(name) is None:
        yield VerifyIssue(name, MISSING, ())
    elif not missing and store.storage.read(name) != errors_text(store.failed_samples()):
        yield VerifyIssue(name, CHANGED, (name,))


def _damaged_files(check: _SizeCheck, files: FileSums) -> Iterator[tuple[str, str]]:
    """Name and problem of each file that differs from its recorded size and checksum."""
    for name, (size, checksum) in files.items():
        problem = check.problem(name, size, checksum)
        if problem:
            yield name, problem
