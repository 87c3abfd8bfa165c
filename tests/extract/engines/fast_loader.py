"""A loader that needs no time; it imports no torch, since decoding processes import it."""

import numpy as np

from epalm.errors import MediaError
from epalm.tasks.types import MediaItem


def load_number(item: MediaItem, view: int) -> np.ndarray:
    """(1, 1) the number that the file contains, plus a tenth of the view."""
    text = item.path.read_text()
    if not text.isdigit():
        raise MediaError(f"{item.key}: no number")
    return np.full((1, 1), int(text) + view / 10, np.float32)
