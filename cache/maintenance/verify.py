"""Find damaged files of a store, and delete them so that extraction writes them again."""

from collections.abc import Iterator
from dataclasses import dataclass

from epalm.cache.records.commit_record import CommitRecord, FileSums, errors_text
from epalm.cache.store import Store
from epalm.errors import CorruptShardError

MISSING = "is missing"


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
    the commit records, is deleted too. No writer may be active.
    """
    issues = list(verify_deep(store))
    if issues:
        store.storage.delete([store.private_name("errors.jsonl")])
    for issue in issues:
        store.storage.delete(issue.remove)
    store.storage.delete_partial_writes()
    return issues


class _SizeCheck:
    """Compares the size of files."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def problem(self, name: str, size: int, checksum: str) -> str:
        """What is wrong with a file; "" if nothing."""
        del checksum
        actual = self.store.storage.size(name)
        if actual is None:
            return MISSING
        return "" if actual == size else f"has {actual} bytes, expected {size}"


class _ChecksumCheck(_SizeCheck):
    """Compares the size of files, then their checksum."""

    def problem(self, name: str, size: int, checksum: str) -> str:
        """What is wrong with a file; "" if nothing."""
        if size_problem := super().problem(name, size, checksum):
            return size_problem
        actual = self.store.storage.checksum(name)
        return "" if actual == checksum else f"has CRC-32C {actual}, expected {checksum}"


def _verify(check: _SizeCheck) -> Iterator[VerifyIssue]:
    store = check.store
    header_issue = _header_issue(store)
    if header_issue:
        yield header_issue
    else:
        for name, problem in _damaged_files(check, store.header.files):
            yield VerifyIssue(name, problem, (name,))
    sound = True
    for record in store.storage.names(store.private_name("done")):
        for issue in _shard_issues(check, record, header_sound=not header_issue):
            sound = False
            yield issue
    if not header_issue and sound:
        yield from _errors_list_issues(store)


def _header_issue(store: Store) -> VerifyIssue | None:
    """Without an intact spec.json, all files but the shards are written again."""
    name = store.private_name("spec.json")
    try:
        _ = store.header
    except CorruptShardError:
        problem = "has changed bytes"
    except FileNotFoundError:
        problem = MISSING
    else:
        return None
    return VerifyIssue(name, problem, (name, *store.format.initial_files))


def _shard_issues(check: _SizeCheck, name: str, *, header_sound: bool) -> Iterator[VerifyIssue]:
    store = check.store
    shard = _shard_number(name, store)
    if shard is None or (header_sound and shard >= store.spec.shards):
        yield VerifyIssue(name, "is not a commit record of this store", (name,))
        return
    try:
        record = CommitRecord.from_bytes(store.storage.read(name), name)
    except CorruptShardError:
        yield VerifyIssue(name, "has changed bytes", (name,))
        return
    files = store.format.shard_files(shard)
    if not record.describes(shard, files, store.media_table_name(shard)):
        yield VerifyIssue(name, "is the record of another shard", (name,))
        return
    if header_sound and record.store != store.header.store:
        yield VerifyIssue(name, "was written for other settings or samples", (name,))
    for file, problem in _damaged_files(check, record.files):
        yield VerifyIssue(file, problem, (file, name))


def _shard_number(record_name: str, store: Store) -> int | None:
    """The number of the shard whose commit record has this name; None if there is none."""
    number = record_name.removesuffix(".json").rpartition("/")[2]
    if not (number.isascii() and number.isdecimal()):
        return None
    return int(number) if store.commit_record_name(int(number)) == record_name else None


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
        yield VerifyIssue(name, "has changed bytes", (name,))


def _damaged_files(check: _SizeCheck, files: FileSums) -> Iterator[tuple[str, str]]:
    """Name and problem of each file that differs from its recorded size and checksum."""
    for name, (size, checksum) in files.items():
        problem = check.problem(name, size, checksum)
        if problem:
            yield name, problem
