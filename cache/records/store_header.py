"""The header of a store, spec.json: the settings that its features were computed with."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from epalm.cache.formats.store_format import Content, StoreFormat, sums_of
from epalm.cache.records.commit_record import FileSums, check_sums
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.cache.storage.storage import Storage
from epalm.errors import StoreError
from epalm.untrusted.checked_json import build


@dataclass(frozen=True)
class StoreHeader:
    """Content of spec.json.

    Attributes:
        spec: settings of the features.
        store: digest of spec and keys.
        files: size and checksum of each file that is written when the store is created.
    """

    spec: StoreSpec
    store: str
    files: FileSums

    def __post_init__(self) -> None:
        """Refuse impossible sizes and checksums."""
        check_sums(self.files)

    @classmethod
    def make(cls, spec: StoreSpec, keys: Sequence[str], files: Mapping[str, Content]) -> Self:
        """The header of a store with these keys and initial files."""
        sums = {name: sums_of(content) for name, content in files.items()}
        return cls(spec, spec.digest(keys), sums)

    def to_bytes(self) -> bytes:
        """Content of the file."""
        return dump_checksummed(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Parse the content of the file; `where` names it in the error.

        Raises:
            CorruptShardError: the file is damaged.
            StoreError: the file is intact, but does not describe a store.
        """
        fields = load_checksummed(data, where)
        try:
            return build(cls, fields, "it")
        except (ValueError, StoreError) as error:
            raise StoreError(f"{where} does not describe a feature store: {error}") from error


def read_header(location: str, storage: Storage, store_format: StoreFormat) -> StoreHeader:
    """Read spec.json, and compare it with the names and sizes of the store's files.

    Args:
        location: path or URL of the store, for error messages.
        storage: files of the store.
        store_format: format of the store.

    Raises:
        FileNotFoundError: there is no spec.json.
        CorruptShardError: it is damaged.
        StoreError: it cannot be read, does not describe a store, belongs to a store that was
            renamed, or specifies more samples than there can be keys.
    """
    name = posixpath.join(store_format.private, "spec.json")
    try:
        data = storage.read(name)
    except PermissionError as error:
        raise StoreError(f"{location} cannot be read ({error}): give read access to it") from error
    header = StoreHeader.from_bytes(data, f"{location}: {name}")
    if set(header.files) != set(store_format.initial_files):
        other = ", ".join(sorted(set(header.files) - set(store_format.initial_files)))
        raise StoreError(
            f"{location} was created under another name ({other}), which its files refer to: "
            "restore that name, then copy the store with `epalm-extract convert`"
        )
    keys_file, key_bytes = store_format.keys_file
    size = storage.size(keys_file)
    if size is not None and size < key_bytes * header.spec.count:
        raise StoreError(
            f"{location}: {name} specifies {header.spec.count} samples, but {keys_file} can hold "
            f"at most {size // key_bytes} keys: copy the store again, or extract again with --fresh"
        )
    return header
