"""Write the keys of a new store, which take gigabytes for 10^8 samples, while it is filled."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from epalm.cache.store import Store


@contextmanager
def deferred_files_written(store: Store, *, at_once: bool) -> Iterator[None]:
    """Write the deferred files of a store in a thread, or afterwards if they are still missing.

    One of several processes should do so at once. The others write the files only if that process
    has not done it when they end, e.g. because it was killed. An error or a signal ends the writing
    as well; the next process resumes, as with shards.

    Args:
        store: the store, see `Store.deferred_files`.
        at_once: whether to write in a thread.

    Raises:
        StoreError: a file cannot be written.
    """
    stop = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="epalm-keys") as thread:
        writing = thread.submit(store.write_deferred_files, stop.is_set) if at_once else None
        try:
            yield
        except BaseException:
            stop.set()
            raise
        if writing:
            writing.result()
    store.write_deferred_files()
