"""Files of a repository: names that are safe to write, and contents as the hub lists them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

from epalm.errors import HubError
from epalm.hub.repository import Repository
from epalm.untrusted.quoted_values import shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BLOCK_BYTES = 1 << 22
"""Bytes per read while a digest is computed (4 MiB)."""

MAX_NAME_CHARACTERS = 1000


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: path in the repository, with forward slashes.
        size: size in bytes.
        digest: SHA-256 of a large file; SHA-1 of the git blob of another one.
        is_large: whether it is stored outside of git (LFS or Xet).
    """

    name: str
    size: int
    digest: str
    is_large: bool

    def matches(self, path: Path) -> bool:
        """Whether a local file has the same content."""
        if path.is_symlink() or not path.is_file() or path.stat().st_size != self.size:
            return False
        digest = hashlib.sha256() if self.is_large else hashlib.sha1(usedforsecurity=False)
        if not self.is_large:
            digest.update(f"blob {self.size}\0".encode())
        with path.open("rb") as opened:
            while block := opened.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest() == self.digest


def remote_files(client: "HfApi", repository: Repository, revision: str) -> Sequence[RemoteFile]:
    """The files of a repository at a commit.

    Raises:
        HubError: a name could be written outside of a folder.
    """
    return list(_listed(client, repository, revision))


def _listed(client: "HfApi", repository: Repository, revision: str) -> Iterator[RemoteFile]:
    from huggingface_hub.hf_api import RepoFile

    entries = client.list_repo_tree(
        repository.name, recursive=True, revision=revision, repo_type=repository.type
    )
    for entry in entries:
        if isinstance(entry, RepoFile):
            check_name(entry.path, repository)
            digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
            yield RemoteFile(entry.path, entry.size, digest, entry.lfs is not None)


def check_name(name: str, repository: Repository) -> None:
    """Refuse names that do not stay in the folder they are written to.

    Raises:
        HubError: an absolute name, one with `..`, backslashes, empty or hidden parts, or control
            characters.
    """
    parts = name.split("/")
    unsafe = "\\" in name or len(name) > MAX_NAME_CHARACTERS
    unsafe = unsafe or any(part in ("", ".", "..") for part in parts)
    if unsafe or any(category(letter) in ("Cc", "Cs") for letter in name):
        raise HubError(
            f"{repository} has a file named {shown(name)}, which no run and no store has: nothing "
            "was downloaded"
        )
