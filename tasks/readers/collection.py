"""Python's collector of reference cycles, and reading that makes millions of objects."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the collector off in a `with` block or a decorated function that makes no cycles.

    As objects become more it goes through all of them again and again, and finds nothing. Whatever
    nothing refers to is freed all the same.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
