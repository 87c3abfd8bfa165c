"""The run that a name stands for: a local folder, or a repository on the hub."""

import re
from pathlib import Path

from epalm.errors import MissingFileError
from epalm.evaluate.preparation.run_lookup import find_run

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
"""The form user/name of a repository on the hub."""


def find_or_fetch_run(runs: Path, name: str) -> Path:
    """The folder of a run; one on the hub is downloaded into the hub's local cache.

    Args:
        runs: folder of all runs.
        name: path of a run, its name in `runs`, or user/name of a repository on the hub; a name in
            an existing folder is no repository.

    Raises:
        MissingFileError: there is no such run.
        HubError: the repository does not exist, has no run, or cannot be reached.
    """
    try:
        return find_run(runs, name)
    except MissingFileError:
        if not HUB_ID.fullmatch(name) or Path(name).parent.is_dir():
            raise

    from epalm.hub.pull import fetch_run

    return fetch_run(name)
