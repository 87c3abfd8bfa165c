"""What is asked: media to encode, examples to answer, predictions made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Self

Modality = Literal["image", "video", "audio"]
Kind = Literal["qa", "caption"]


class ByteRange(NamedTuple):
    """Some bytes of a file: one photo of a tar file.

    Attributes:
        offset: of the first byte.
        nbytes: how many.
    """

    offset: int
    nbytes: int

    def read(self, path: Path) -> bytes:
        """The bytes.

        Raises:
            OSError: the file cannot be read, or ends before them.
        """
        with path.open("rb") as file:
            file.seek(self.offset)
            found = file.read(self.nbytes)
        if len(found) < self.nbytes:
            raise OSError(f"ends before byte {self.offset + self.nbytes}")
        return found


class MediaItem(NamedTuple):
    """One photo, clip or recording to encode.

    There may be millions: the folder is one object for all of them, and no path is kept. Named
    tuples are made several times as fast as frozen dataclasses.

    Attributes:
        key: its address in a feature store.
        folder: where it lies.
        name: of its file, relative to the folder.
        modality: what it is.
        part: the bytes of that file which it is; None for all of them. Photos only.
    """

    key: str
    folder: Path
    name: str
    modality: Modality = "image"
    part: ByteRange | None = None

    @classmethod
    def at(cls, path: Path, key: str, modality: Modality = "image") -> Self:
        """The medium in a file."""
        return cls(key, path.parent, path.name, modality)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.name


class Example(NamedTuple):
    """One question about, or caption of, one medium.

    Attributes:
        key: the medium, as in the feature store.
        question_id: unique within its split.
        prompt: the question; empty for captioning.
        answers: what training may teach, one is drawn per epoch.
        weights: the chance of each answer, in proportion; empty means equal chances.
        references: what a prediction is scored against (ten human answers, five captions, ...).
        question_type: group for the break-down of scores, e.g. "how many"; empty if unknown.
        answer_type: likewise, e.g. "yes/no".
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
    """A set of media and the tasks that ask about it.

    Attributes:
        name: short name, the first half of the store's default file name.
        items: every medium once, in a stable order; the rows of the store.
        tasks: names of the tasks over these media, the default one first.
        root: folder the files were found in; recorded in the store as the default for training.
    """

    name: str
    items: tuple[MediaItem, ...]
    tasks: tuple[str, ...]
    root: Path


@dataclass(frozen=True)
class Task:
    """Questions or captions over one set of media.

    Attributes:
        name: as on the command line.
        kind: "qa" (short answers to prompts) or "caption".
        metric: the entry of `epalm.metrics` that scores it.
        splits: names accepted by `examples`.
        examples: (split, data root) -> the split's examples, in file order.
        train_split: the split training reads unless told otherwise.
        val_split: the split validation reads unless told otherwise.
    """

    name: str
    kind: Kind
    metric: str
    splits: tuple[str, ...]
    examples: Callable[[str, Path], list[Example]] = field(repr=False)
    train_split: str = "train"
    val_split: str = "val"
