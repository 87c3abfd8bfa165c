"""What pushing and pulling show: files, and the progress bars of the hub's client."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from epalm.console import byte_size, counted, err_console, say


def show_files(sizes: Mapping[str, int], ending: str) -> None:
    """Print the size and name of each file, and their sum with the end of a sentence."""
    for name, size in sizes.items():
        say(f"{byte_size(size):>8}  {name}")
    say(f"{byte_size(sum(sizes.values())):>8}  in {counted(len(sizes), 'file')}: {ending}")


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
