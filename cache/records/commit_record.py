"""The two documents that make files a store: what it is, and what is done."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksummed_json import seal, unseal
from epalm.cache.storage.storage import measure
from epalm.errors import CorruptShardError, StoreError
from epalm.untrusted.checked_json import build

FileSums = Mapping[str, tuple[int, str]]
"""Path relative to a store's place -> bytes and CRC-32C, as eight hexadecimal digits."""

_CHECKSUM = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class CommitRecord:
    """Proof that a shard is on the disk.

    Attributes:
        rows: number of records in the shard.
        files: the shard's files.
        errors: key -> reason, for records that could not be encoded.
        store: digest of the spec and keys that the shard was made for.
        shard: its number; None in records of earlier versions, which their files' names tell apart.
    """

    rows: int
    files: FileSums
    errors: Mapping[str, str]
    store: str
    shard: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes and checksums that are none."""
        _check_sums(self.files)

    def is_of(self, shard: int, files: Collection[str], media: str) -> bool:
        """Whether it is about a shard and its files alone.

        Args:
            shard: its number.
            files: names of those that it must have.
            media: name of its media record, which it may have.
        """
        return self.shard in (None, shard) and self.files.keys() - {media} == set(files)

    def to_bytes(self) -> bytes:
        """The record's file."""
        return seal(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """The record of a file; `where` names it in the error.

        Raises:
            CorruptShardError: the file is damaged, or has other fields.
        """
        fields = unseal(data, where)
        try:
            return build(cls, fields, "it")
        except ValueError as error:
            raise CorruptShardError(
                f"{where} is no commit record ({error}): run `epalm-extract repair` on the store, "
                "then extract again"
            ) from error


@dataclass(frozen=True)
class StoreHeader:
    """Content of spec.json.

    Attributes:
        spec: what the vectors are.
        store: digest of spec and keys.
        files: the files made with the store.
    """

    spec: StoreSpec
    store: str
    files: FileSums

    def __post_init__(self) -> None:
        """Refuse sizes and checksums that are none."""
        _check_sums(self.files)

    @classmethod
    def make(cls, spec: StoreSpec, keys: Sequence[str], skeleton: Mapping[str, bytes]) -> Self:
        """The head of a store with these records and first files."""
        sums = {name: measure([data]) for name, data in skeleton.items()}
        return cls(spec, spec.digest(keys), sums)

    def to_bytes(self) -> bytes:
        """The file."""
        return seal(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """The head of a file; `where` names it in the error.

        Raises:
            CorruptShardError: the file is damaged.
            StoreError: it is whole, but describes no store.
        """
        fields = unseal(data, where)
        try:
            return build(cls, fields, "it")
        except (ValueError, StoreError) as error:
            raise StoreError(f"{where} describes no feature store: {error}") from error


def errors_text(failed: Mapping[str, str]) -> bytes:
    """Content of errors.jsonl."""
    lines = [json.dumps({"key": key, "error": why}) + "\n" for key, why in failed.items()]
    return "".join(lines).encode()


def _check_sums(files: FileSums) -> None:
    """A checksum becomes part of the name of a local copy, so that it must be none of a path."""
    for name, (size, checksum) in files.items():
        if size < 0 or not _CHECKSUM.fullmatch(checksum):
            raise ValueError(f"{name!r} has size {size} and checksum {checksum!r}")
