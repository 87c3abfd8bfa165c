"""Pause Python's cyclic garbage collector while millions of objects are created."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the collector in a `with` block or a decorated function that creates no cycles.

    With a growing number of objects, the collector would traverse all of them again and again
    without finding any. Objects without references are freed all the same.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
