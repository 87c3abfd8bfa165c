"""Load the dataset of an extraction: from its index if it is large, else into memory."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from epalm.cache.index.index_files import default_index
from epalm.cache.index.sample_index import SampleIndex
from epalm.console import progress
from epalm.errors import StoreError
from epalm.extract.indexing.index_items import index_media
from epalm.extract.indexing.index_source import (
    INDEXED_BYTES,
    IndexSource,
    dataset_source,
    input_source,
)
from epalm.extract.indexing.input_files import InputFiles, find_input
from epalm.tasks.task_registry import DATASETS, load_media
from epalm.tasks.types import MediaSet

logger = logging.getLogger(__name__)

_temporary: list[tempfile.TemporaryDirectory[str]] = []
"""Indexes of dry runs and benchmarks, deleted when the process ends."""


class DatasetOptions(Protocol):
    """Those options of `epalm-extract` that say which samples are read, and from where."""

    @property
    def dataset(self) -> str:
        """Name or path of the dataset."""

    @property
    def data_root(self) -> Path | None:
        """Folder of the dataset; None for the default."""

    @property
    def index(self) -> Path | None:
        """Folder of the index; None for the default."""

    @property
    def allow_outside(self) -> bool:
        """Whether paths may lead out of the dataset."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be written."""

    @property
    def benchmark(self) -> bool:
        """Whether nothing is kept."""

    @property
    def quiet(self) -> bool:
        """Whether no progress is shown."""


def load_dataset(options: DatasetOptions, store_of: Callable[[str], str]) -> MediaSet:
    """The dataset of --dataset.

    Tar files, tables, folders of media files and large manifests are read from an index, which is
    built first if it is missing or the dataset has changed.

    Args:
        options: the options of the command.
        store_of: the path or URL of the store of a dataset with a name.

    Raises:
        UsageError: there is no such dataset.
        DataError: files are missing or malformed.
        StoreError: the index cannot be written, or a key is repeated.
        CacheMismatchError: the folder of the index has that of another dataset.
    """
    dataset, outside = options.dataset, options.allow_outside
    if dataset in DATASETS or not Path(dataset).exists():
        if options.index is None:
            return load_media(dataset, options.data_root, allow_outside=outside)
        source = dataset_source(dataset, options.data_root, allow_outside=outside)
        folder = options.index
    else:
        inputs = find_input(Path(dataset))
        folder = options.index or default_index(store_of(inputs.name))
        if options.index is None and _fits(inputs) and not folder.is_dir():
            return load_media(dataset, options.data_root, allow_outside=outside)
        source = input_source(inputs)
    index = _open_or_build(source, folder, options)
    return index_media(index, source.root, allow_outside=outside)


def _fits(inputs: InputFiles) -> bool:
    """Whether a dataset is listed in memory."""
    return inputs.kind == "manifest" and inputs.nbytes <= INDEXED_BYTES


def _open_or_build(source: IndexSource, folder: Path, options: DatasetOptions) -> SampleIndex:
    if index := source.builder(folder).opened():
        return index
    if options.dry_run or options.benchmark:  # these keep nothing, and change no older index
        _temporary.append(tempfile.TemporaryDirectory(prefix="epalm-index-"))
        folder = Path(_temporary[-1].name)
    if not (index := build_index(source, folder, quiet=options.quiet)):
        raise StoreError(f"{folder} changed while it was built: run the same command again")
    logger.info("%s: index of %d samples", folder, len(index))
    return index


def build_index(
    source: IndexSource, folder: Path, *, part: int = 0, parts: int = 1, quiet: bool = False
) -> SampleIndex | None:
    """Build an index, with a progress display; arguments and errors as in `IndexBuilder.build`."""
    folder.mkdir(parents=True, exist_ok=True)
    with progress("indexing", total=0, unit="samples", quiet=quiet) as tick:
        return source.builder(folder).build(part=part, parts=parts, tick=tick)
