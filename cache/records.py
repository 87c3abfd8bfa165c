"""The two documents that make files a store: what it is, and what is done."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from epalm.cache.place import measure
from epalm.cache.sealed import seal, unseal
from epalm.cache.spec import StoreSpec

FileSums = Mapping[str, tuple[int, str]]
"""Path relative to a store's place -> bytes and CRC-32C."""


@dataclass(frozen=True)
class CommitRecord:
    """Proof that a shard is on the disk.

    Attributes:
        rows: number of records in the shard.
        files: the shard's files.
        errors: key -> reason, for records that could not be encoded.
        store: digest of the spec and keys that the shard was made for.
    """

    rows: int
    files: FileSums
    errors: Mapping[str, str]
    store: str

    def to_bytes(self) -> bytes:
        """The record's file."""
        return seal(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """The record of a file; `where` names it in the error.

        Raises:
            CorruptShardError: the file is damaged.
        """
        fields = unseal(data, where)
        return cls(**{**fields, "files": _sums(fields)})


@dataclass(frozen=True)
class Head:
    """Content of spec.json.

    Attributes:
        spec: what the vectors are.
        store: digest of spec and keys.
        files: the files made with the store.
    """

    spec: StoreSpec
    store: str
    files: FileSums

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
        """
        fields = unseal(data, where)
        return cls(StoreSpec.from_fields(fields["spec"]), fields["store"], _sums(fields))


def errors_text(failed: Mapping[str, str]) -> bytes:
    """Content of errors.jsonl."""
    lines = [json.dumps({"key": key, "error": why}) + "\n" for key, why in failed.items()]
    return "".join(lines).encode()


def _sums(fields: Mapping[str, Any]) -> FileSums:
    return {name: (size, checksum) for name, (size, checksum) in fields["files"].items()}
