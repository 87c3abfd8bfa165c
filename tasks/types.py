"""The types of datasets and tasks: media items, examples, predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, Self

Modality = Literal["image", "video", "audio"]
Kind = Literal["qa", "caption"]


class FilePart(Protocol):
    """What contains one image in a file of many: a range of bytes, or a cell of a table."""

    @property
    def offset(self) -> int:
        """Position of the first byte; for a cell, its row in the row group."""

    @property
    def nbytes(self) -> int:
        """Number of bytes; 0 for a cell."""

    def read(self, path: Path) -> bytes:
        """Read the bytes; raises OSError if the file cannot be read, or is too short."""


class ByteRange(NamedTuple):
    """A range of bytes in a file, such as one image of a tar file.

    Attributes:
        offset: position of the first byte.
        nbytes: number of bytes.
    """

    offset: int
    nbytes: int

    def read(self, path: Path) -> bytes:
        """Read the bytes.

        Raises:
            OSError: the file cannot be read, or is too short.
        """
        with path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.nbytes)
        if len(content) < self.nbytes:
            raise OSError(f"ends before byte {self.offset + self.nbytes}")
        return content


class MediaItem(NamedTuple):
    """One image, video or audio clip to encode.

    A dataset may have millions: all items share one folder object, and no path is stored. Named
    tuples are created several times as fast as frozen dataclasses.

    Attributes:
        key: unique key of the item in a feature store.
        folder: folder of the dataset.
        name: path of the file, relative to the folder.
        modality: "image", "video" or "audio".
        part: where the file contains the item; None for the whole file. Images only.
    """

    key: str
    folder: Path
    name: str
    modality: Modality = "image"
    part: FilePart | None = None

    @classmethod
    def from_path(cls, path: Path, key: str, modality: Modality = "image") -> Self:
        """Return the item for a whole file."""
        return cls(key, path.parent, path.name, modality)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.folder / self.name


class Example(NamedTuple):
    """One question about a media item, or one captioning example.

    Attributes:
        key: key of the media item in the feature store.
        question_id: unique id within the split.
        prompt: the question; empty for captioning.
        answers: possible training targets; one is drawn per epoch.
        references: texts to score a prediction against (ten human answers, five captions, ...).
        weights: relative sampling probability of each answer; empty for equal probabilities.
        question_type: group for the breakdown of scores, e.g. "how many"; empty if unknown.
        answer_type: group for the breakdown of scores, e.g. "yes/no"; empty if unknown.
    """

    key: str
    question_id: str
    prompt: str
    answers: tuple[str, ...]
    references: tuple[str, ...]
    weights: tuple[float, ...] = ()
    question_type: str = ""
    answer_type: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The text generated for one example."""

    question_id: str
    key: str
    text: str


@dataclass(frozen=True)
class MediaSet:
    """A dataset of images, videos or audio clips, and the tasks defined on it.

    Attributes:
        name: short name, the first half of the store's default file name.
        items: every media item once, in a stable order; one row of the store each.
        tasks: names of the tasks on this dataset, the default one first.
        root: folder of the files; recorded in the store as the default data root of training.
    """

    name: str
    items: Sequence[MediaItem]
    tasks: tuple[str, ...]
    root: Path


@dataclass(frozen=True)
class Task:
    """A question answering or captioning task on one dataset.

    Attributes:
        name: name on the command line.
        kind: "qa" (short answers to prompts) or "caption".
        metric: name of the main metric in `epalm.metrics`.
        splits: names that `examples` accepts.
        examples: function from (split, data root) to the split's examples, in file order.
        train_split: default split for training.
        val_split: default split for validation.
    """

    name: str
    kind: Kind
    metric: str
    splits: tuple[str, ...]
    examples: Callable[[str, Path], list[Example]] = field(repr=False)
    train_split: str = "train"
    val_split: str = "val"
