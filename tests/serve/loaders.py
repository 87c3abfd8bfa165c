"""Loaders of samples that fail; a module of its own, so that processes import little."""

import os
import signal
import time

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MediaError
from epalm.tasks.types import MediaItem


def kill_or_refuse(item: MediaItem, view: int) -> NDArray[np.uint8]:
    """A loader whose process dies for some content."""
    content = item.path.read_bytes()
    if content == b"crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if content == b"hang":
        time.sleep(60)
    raise MediaError(f"{item.path.name}: found {content!r}")
