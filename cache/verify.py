"""What is wrong with a store, and how it is taken out so that extraction makes it again."""

from collections.abc import Iterator
from dataclasses import dataclass

from epalm.cache.records.commit_record import CommitRecord, FileSums, errors_text
from epalm.cache.store import Store
from epalm.errors import CorruptShardError

LOST = "is lost"
"""What is found of a file that is not there."""


@dataclass(frozen=True)
class VerifyIssue:
    """One file of a store that is not what it should be.

    Attributes:
        name: of the file, relative to the store's place.
        found: what is wrong with it.
        remove: the files to delete so that the same extraction makes all of this again.
    """

    name: str
    found: str
    remove: tuple[str, ...]


def verify(store: Store) -> Iterator[VerifyIssue]:
    """Compare presence and size of every file with what the store's documents say.

    Shards that are missing are no problem: see `Store.missing`.
    """
    return _verify(_Sizes(store))


def verify_deep(store: Store) -> Iterator[VerifyIssue]:
    """As `verify`, and compute the checksum of every byte of every file."""
    return _verify(_Checksums(store))


def repair(store: Store) -> list[VerifyIssue]:
    """Find damage by every byte and delete what is damaged; the problems that were there.

    The same extraction then makes exactly that again. Documents that follow from others
    (errors.jsonl) go too. No writer may be at work.
    """
    problems = list(verify_deep(store))
    if problems:
        store.place.delete([store.name("errors.jsonl")])
    for problem in problems:
        store.place.delete(problem.remove)
    store.place.sweep()
    return problems


class _Sizes:
    """Compares files by their size."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def differs(self, name: str, size: int, checksum: str) -> str:
        """What is wrong with a file; "" if nothing is."""
        del checksum
        found = self.store.place.size(name)
        if found is None:
            return LOST
        return "" if found == size else f"has {found} bytes, wanted {size}"


class _Checksums(_Sizes):
    """Compares files by their size, then by their bytes."""

    def differs(self, name: str, size: int, checksum: str) -> str:
        """What is wrong with a file; "" if nothing is."""
        by_size = super().differs(name, size, checksum)
        if by_size:
            return by_size
        found = self.store.place.checksum(name)
        return "" if found == checksum else f"has CRC-32C {found}, wanted {checksum}"


def _verify(compare: _Sizes) -> Iterator[VerifyIssue]:
    store = compare.store
    head = _head_problem(store)
    if head:
        yield head
    else:
        for name, found in _differing(compare, store.head.files):
            yield VerifyIssue(name, found, (name,))
    problems = False
    for record in store.place.names(store.name("done")):
        for problem in _shard_problems(compare, record, known=not head):
            problems = True
            yield problem
    if not head and not problems:
        yield from _list_problems(store)


def _head_problem(store: Store) -> VerifyIssue | None:
    """Without a sound spec.json all but the shards is unknown, and made again with it."""
    name = store.name("spec.json")
    try:
        _ = store.head
    except CorruptShardError:
        found = "has changed bytes"
    except FileNotFoundError:
        found = LOST
    else:
        return None
    return VerifyIssue(name, found, (name, *store.layout.first_files))


def _shard_problems(compare: _Sizes, name: str, *, known: bool) -> Iterator[VerifyIssue]:
    store = compare.store
    shard = _shard_of(name, store)
    if shard is None or (known and shard >= store.spec.shards):
        yield VerifyIssue(name, "is no commit record of this store", (name,))
        return
    try:
        record = CommitRecord.from_bytes(store.place.read(name), name)
    except CorruptShardError:
        yield VerifyIssue(name, "has changed bytes", (name,))
        return
    if not record.is_of(shard, store.layout.shard_files(shard), store.media_name(shard)):
        yield VerifyIssue(name, "is the record of another shard", (name,))
        return
    if known and record.store != store.head.store:
        yield VerifyIssue(name, "was written for other settings or records", (name,))
    for file, found in _differing(compare, record.files):
        yield VerifyIssue(file, found, (file, name))


def _shard_of(record_name: str, store: Store) -> int | None:
    """The shard whose commit record is called so; None if none is."""
    number = record_name.removesuffix(".json").rpartition("/")[2]
    if not (number.isascii() and number.isdecimal()):
        return None
    return int(number) if store.record_name(int(number)) == record_name else None


def _list_problems(store: Store) -> Iterator[VerifyIssue]:
    """errors.jsonl is written last and follows from the commit records."""
    name = store.name("errors.jsonl")
    missing = store.missing()
    if missing and store.place.size(name) is not None:
        for shard in missing:
            yield VerifyIssue(store.record_name(shard), LOST, (name,))
    elif not missing and store.place.size(name) is None:
        yield VerifyIssue(name, LOST, ())
    elif not missing and store.place.read(name) != errors_text(store.failed()):
        yield VerifyIssue(name, "has changed bytes", (name,))


def _differing(compare: _Sizes, files: FileSums) -> Iterator[tuple[str, str]]:
    """Name of each file that differs, and what is wrong with it."""
    for name, (size, checksum) in files.items():
        found = compare.differs(name, size, checksum)
        if found:
            yield name, found
