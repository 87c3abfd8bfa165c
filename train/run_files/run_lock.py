"""A lock that allows one training at a time in a folder and ends with its process.

The lock is flock(2) on a file in the folder, so that it moves with the folder. On NFS Linux turns
it into a byte-range lock, which works across machines if the server has locks; with the mount
options `nolock` or `local_lock=flock` it works on one machine only. A file system without locks
gives a warning.
"""

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from epalm.errors import RunFolderError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
"""File that is locked; its text names the last process that locked it, which may have ended."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Error numbers of file systems without locks."""

HOLDER_BYTES = 4096
"""Upper bound of the size of a lock file."""


@contextmanager
def locked(folder: Path, *, run: Path) -> Iterator[None]:
    """Lock a folder while the context is open.

    Args:
        folder: existing folder.
        run: run folder, for the message.

    Raises:
        RunFolderError: another process holds the lock; the message names it if it is known.
        OSError: the file system refuses.
    """
    file = folder / LOCK_FILE
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, file, run)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _own_name(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, file: Path, run: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy(descriptor, run) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning(
            "%s is on a file system without locks (%s): do not train twice in it at once",
            run,
            error.strerror,
        )
    if not _names(file, descriptor):  # renamed by another process between opening and locking
        raise _busy(descriptor, run)


def _names(file: Path, descriptor: int) -> bool:
    """Whether the path still refers to the open file."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _own_name() -> bytes:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()


def _busy(descriptor: int, run: Path) -> RunFolderError:
    try:
        holder = json.loads(os.pread(descriptor, HOLDER_BYTES, 0))
        who = f"process {int(holder['pid'])} on {holder['host']}, since {holder['since']}"
    except (ValueError, TypeError, KeyError, RecursionError):
        who = "another process"
    return RunFolderError(
        f"{run} is in use by {who}: wait until that training ends, or choose another --name"
    )
