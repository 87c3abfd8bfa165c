"""Files in place of a dataset, for `epalm.extract`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast, get_args

from epalm.errors import MissingFileError, UsageError
from epalm.tasks.types import MediaItem, MediaSet, Modality

Samples: TypeAlias = Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]
"""Paths, or a mapping from keys to paths."""

NAME = "samples"
"""Name of the dataset in the store."""


def sample_set(samples: Samples, modality: str) -> MediaSet:
    """The files as a dataset without tasks; keys are the paths as they are given.

    Raises:
        UsageError: there is no such modality, no sample, or one of them twice.
        MissingFileError: a file does not exist.
    """
    if modality not in get_args(Modality):
        raise UsageError(f"modality={modality!r} is not one of {', '.join(get_args(Modality))}")
    if isinstance(samples, str | os.PathLike):
        raise UsageError(f"samples={samples!r} is one path, expected a list of paths")
    pairs = (
        list(samples.items())
        if isinstance(samples, Mapping)
        else [(os.fspath(path), path) for path in samples]
    )
    if not pairs:
        raise UsageError("samples is empty, expected at least one path")
    seen: set[str] = set()
    for key, path in pairs:
        if key in seen:
            raise UsageError(f"samples has {key!r} twice, expected each once")
        seen.add(key)
        if not Path(path).is_file():
            raise MissingFileError(f"{os.fspath(path)}: no such file")
    items = tuple(
        MediaItem.from_path(Path(path).absolute(), key, cast(Modality, modality))
        for key, path in pairs
    )
    return MediaSet(NAME, items, (), Path.cwd())
