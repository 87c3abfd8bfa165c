"""The check that a tracker's package is installed, which needs no torch."""

import importlib.util

from epalm.errors import MissingToolError


def check_tracker(name: str | None) -> None:
    """Refuse a tracker whose package is not installed.

    Raises:
        MissingToolError: names the command that installs it.
    """
    spec = importlib.util.find_spec(name) if name else None
    if name and (spec is None or spec.origin is None):  # a folder `wandb` is no package
        raise MissingToolError(
            f"--track {name} needs the package {name}, which is not installed: run "
            f"`pip install 'epalm[{name}]'`"
        )
