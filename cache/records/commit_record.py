"""The commit record of a shard: proof that its files are complete."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.errors import CorruptShardError
from epalm.untrusted.checked_json import LARGEST, build

FileSums = Mapping[str, tuple[int, str]]
"""File name relative to the storage -> size in bytes and CRC-32C, as eight hexadecimal digits."""

_CHECKSUM = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class CommitRecord:
    """Content of done/00012.json.

    Attributes:
        rows: number of rows in the shard.
        files: size and checksum of each of the shard's files.
        errors: key -> reason, for each sample that could not be encoded.
        store: digest of the spec and keys of the store that the shard belongs to.
        shard: shard number; None in records of earlier versions, whose file names have the number.
    """

    rows: int
    files: FileSums
    errors: Mapping[str, str]
    store: str
    shard: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible sizes and checksums."""
        check_sums(self.files)

    def describes(self, shard: int, files: Collection[str], media_table: str) -> bool:
        """Whether the record is about this shard and lists exactly its files.

        Args:
            shard: shard number.
            files: names of the files that the shard must have.
            media_table: name of its media table, which it may have.
        """
        return self.shard in (None, shard) and self.files.keys() - {media_table} == set(files)

    def to_bytes(self) -> bytes:
        """Content of the file."""
        return dump_checksummed(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Parse the content of the file; `where` names it in the error.

        Raises:
            CorruptShardError: the file is damaged, or has other fields.
        """
        fields = load_checksummed(data, where)
        try:
            if not _has_plain_types(fields):
                return build(cls, fields, "it")
            files = {name: (size, checksum) for name, (size, checksum) in fields["files"].items()}
            return cls(**{**fields, "files": files})
        except ValueError as error:
            raise CorruptShardError(
                f"{where} is not a commit record ({error}): run `epalm-extract repair` on the "
                "store, then extract again"
            ) from error


def _has_plain_types(fields: Mapping[str, Any]) -> bool:
    """Whether the fields are those that `CommitRecord.to_bytes` writes.

    `build` would find the same at ten times the cost, and a large store has thousands of records.
    """
    if fields.keys() != {"rows", "files", "errors", "store", "shard"}:
        return False
    files, errors = fields["files"], fields["errors"]
    if type(files) is not dict or type(errors) is not dict or type(fields["store"]) is not str:
        return False
    if not all(type(sums) is list and [*map(type, sums)] == [int, str] for sums in files.values()):
        return False
    numbers = (fields["rows"], fields["shard"], *(size for size, _ in files.values()))
    return all(type(number) is int and abs(number) < LARGEST for number in numbers) and all(
        type(reason) is str for reason in errors.values()
    )


def errors_text(failed: Mapping[str, str]) -> bytes:
    """Content of errors.jsonl: a line for each sample that could not be encoded."""
    lines = [json.dumps({"key": key, "error": reason}) + "\n" for key, reason in failed.items()]
    return "".join(lines).encode()


def check_sums(files: FileSums) -> None:
    """Refuse impossible sizes and checksums.

    A checksum becomes part of the file name of a local copy, so it must not contain a path.

    Raises:
        ValueError: names the file.
    """
    for name, (size, checksum) in files.items():
        if size < 0 or not _CHECKSUM.fullmatch(checksum):
            raise ValueError(f"{name!r} has size {size} and checksum {checksum!r}")
