"""Uploaded bytes as files without a name, which the system deletes with the process."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile

from epalm.tasks.types import MediaItem, Modality

PREFIX = "epalm-upload-"
"""Beginning of the name of an upload where files need one."""

OPEN_FILES = "/proc/{}/fd"
"""Folder of the open files of a process (Linux)."""


def content_key(content: bytes) -> str:
    """The key of a sample: SHA-256 of its bytes, as `epalm.ask.samples` has it."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def uploaded_file(content: bytes, modality: Modality) -> Iterator[MediaItem]:
    """A file with these bytes for decoding processes of the same user.

    On Linux it has no entry in any folder, so that nothing is left behind after `kill -9`.
    """
    folder = Path(OPEN_FILES.format(os.getpid()))
    if folder.is_dir():
        with TemporaryFile(prefix=PREFIX) as file:
            file.write(content)
            file.flush()
            yield MediaItem(content_key(content), folder, str(file.fileno()), modality)
    else:
        with NamedTemporaryFile(prefix=PREFIX) as named:
            named.write(content)
            named.flush()
            yield MediaItem.from_path(Path(named.name), content_key(content), modality)
