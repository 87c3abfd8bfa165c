"""What the index of a dataset is built from, and the index itself."""

from dataclasses import dataclass
from pathlib import Path

from epalm.cache.index.index_builder import IndexBuilder, Unit
from epalm.cache.index.repeated_keys import Repeated
from epalm.extract.indexing.input_files import InputFiles, find_input
from epalm.extract.indexing.table_units import table_units
from epalm.extract.indexing.units import folder_units, item_units, manifest_units, tar_units
from epalm.tasks import manifest
from epalm.tasks.task_registry import DATASETS, load_media
from epalm.tasks.types import Modality

INDEXED_BYTES = 200_000_000
"""A manifest of more bytes is indexed by its first extraction; it has about a million lines."""


@dataclass(frozen=True)
class IndexSource:
    """The units of a dataset and the labels of its index.

    Attributes:
        name: name of the dataset.
        root: data root.
        tasks: names of its tasks.
        modality: modality of all samples.
        units: what is read.
        repeated: what to do with several samples of one key.
    """

    name: str
    root: Path
    tasks: tuple[str, ...]
    modality: Modality
    units: list[Unit]
    repeated: Repeated

    def builder(self, folder: Path) -> IndexBuilder:
        """The builder of the index in a folder."""
        labels = {"dataset": self.name, "modality": self.modality, "tasks": ",".join(self.tasks)}
        return IndexBuilder(folder, self.units, labels, repeated=self.repeated)


def input_source(inputs: InputFiles) -> IndexSource:
    """The source of a dataset that is given as a path.

    Raises:
        DataError: the first file is malformed.
    """
    modality: Modality = "image"
    if inputs.kind == "manifest":
        units, modality = manifest_units(inputs)
    elif inputs.kind == "media":
        units, modality = folder_units(inputs)
    else:
        units = tar_units(inputs) if inputs.kind == "tar" else table_units(inputs)
    repeated: Repeated = "first" if inputs.kind == "manifest" else "refuse"
    tasks = (manifest.TASK,)
    return IndexSource(inputs.name, inputs.root, tasks, modality, units, repeated)


def dataset_source(dataset: str, data_root: Path | None, *, allow_outside: bool) -> IndexSource:
    """The source of a dataset that is given by name or path.

    Raises:
        UsageError: there is no such dataset.
        DataError: files are missing or malformed.
    """
    if dataset not in DATASETS and Path(dataset).exists():
        return input_source(find_input(Path(dataset)))
    media = load_media(dataset, data_root, allow_outside=allow_outside)
    units = item_units(media.items, media.root, media.name)
    modality = media.items[0].modality
    return IndexSource(media.name, media.root, media.tasks, modality, units, "refuse")
