"""What the program and the encoder processes of an engine send each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from epalm.extract.planning.extract_options import ExtractOptions
from epalm.tasks.types import MediaSet


@dataclass(frozen=True)
class WorkerSetup:
    """What an encoder process is started with.

    Attributes:
        options: the options of the command; local paths are absolute.
        media: the samples; None to load those of `options.dataset`.
        folder: working folder of the program, which the process takes over if it exists there.
    """

    options: ExtractOptions
    media: MediaSet | None
    folder: str


@dataclass(frozen=True)
class OpenedStore:
    """The store of a run, as the first encoder process has created or opened it.

    Attributes:
        location: path or URL.
        store_format: "zarr" or "hdf5"; None decides by the suffix of the location.
        digest: digest of the settings and samples of the store with all its rows.
        absent: number of rows whose sample is not in the dataset.
        unit: what the samples are called, e.g. "images".
        device: name of the device of the encoder.
        reencode: finished shards to encode again -> rows within each that keep their features.
    """

    location: str
    store_format: str | None
    digest: str
    absent: int
    unit: str
    device: str
    reencode: Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class TaskReport:
    """The result of a task.

    Attributes:
        encoded: number of samples that were encoded or failed.
        failed: number of these that failed.
        seconds: wall-clock time of the task.
        memory: peak main memory of the process in bytes.
        device_memory: peak GPU memory of the process in bytes.
        damage: notes on files that were decoded in part.
    """

    encoded: int
    failed: int
    seconds: float
    memory: int
    device_memory: int
    damage: Sequence[str]


@dataclass(frozen=True)
class WorkerProgress:
    """How far a process has come with its task.

    Attributes:
        task: number of tasks that the process has begun.
        samples: number of samples of the last one that were encoded or failed.
        log: (level, text) of each message since the last report.
    """

    task: int
    samples: int
    log: Sequence[tuple[int, str]]
