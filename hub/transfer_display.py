"""The progress bars of the hub's client."""

from collections.abc import Iterator
from contextlib import contextmanager

from epalm.console import err_console


@contextmanager
def progress_shown(*, quiet: bool) -> Iterator[None]:
    """Show the client's own progress bars on a terminal, and none elsewhere or if quiet."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hidden = (quiet or not err_console.is_terminal) and not are_progress_bars_disabled()
    if hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        if hidden:
            enable_progress_bars()
