"""MSRVTT, MSVD and AudioCaps, in the JSON format of the official eP-ALM implementation.

Questions:  {"video": "video0.mp4", "question": ..., "question_id": 7, "label": {"couch": 1.0}}
            ("sent" may replace "question")
Captions:   {"video": "video0.mp4", "caption": "a man sings"} or a list of captions; "audio" for
            AudioCaps, e.g. "train/rqfQRErjfk8.wav"

A dataset consists of the media that the available annotation files refer to: the caption files are
not needed for question answering.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from sys import intern

from epalm.errors import MissingFileError
from epalm.tasks.readers.data_files import (
    check_split,
    check_unique_ids,
    find_file,
    find_folder,
    warn_missing,
)
from epalm.tasks.readers.json_record import JsonRecord
from epalm.tasks.readers.json_stream import stream_list
from epalm.tasks.types import Example, Kind, MediaItem, MediaSet, Modality, Task

SPLITS = ("train", "val", "test")
"""Splits of every task; some tasks have more."""

ANNOTATION_FOLDER = "annotation"


@dataclass(frozen=True, slots=True)
class DatasetLayout:
    """Names and folders of one dataset.

    Attributes:
        name: name of the dataset, and of its sub-folder of the data root.
        modality: modality of its media.
        member: member of each record that contains the path of the media file.
        folders: folders of media files, relative to the data root or to the sub-folder.
        title: full name and reference, for messages.
    """

    name: str
    modality: Modality
    member: str
    folders: tuple[str, ...]
    title: str


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """The annotation files of one task.

    Attributes:
        name: name of the task.
        kind: question answering or captioning.
        layout: the dataset of the task.
        files: split -> file name; only missing files of `SPLITS` are reported.
    """

    name: str
    kind: Kind
    layout: DatasetLayout
    files: Mapping[str, str]

    def find(self, split: str, root: Path) -> Path:
        """Find the file of a split.

        Raises:
            MissingFileError: the file does not exist.
        """
        title = self.layout.title
        return find_file(
            self.files[split],
            root=root,
            folders=_annotation_folders(self.layout),
            published=f"a file of {title} in the format of the official eP-ALM implementation",
        )


def _one_per_split(pattern: str) -> dict[str, str]:
    return {split: pattern.format(split=split) for split in SPLITS}


VIDEO_FOLDERS = ("videos/all", "videos")

MSRVTT = DatasetLayout("msrvtt", "video", "video", VIDEO_FOLDERS, "MSRVTT (Xu et al. 2016)")
MSVD = DatasetLayout(
    "msvd", "video", "video", (*VIDEO_FOLDERS, "YouTubeClips"), "MSVD (Chen and Dolan 2011)"
)
AUDIOCAPS = DatasetLayout("audiocaps", "audio", "audio", ("audios",), "AudioCaps (Kim et al. 2019)")

MSRVTT_QA = TaskFiles("msrvtt-qa", "qa", MSRVTT, _one_per_split("msrvtt_vqa_{split}.json"))
MSVD_QA = TaskFiles("msvd-qa", "qa", MSVD, _one_per_split("msvd_vqa_{split}.json"))
MSRVTT_CAPTION = TaskFiles(
    "msrvtt-caption",
    "caption",
    MSRVTT,
    {
        "train": "msrvtt_caption_train7k.json",
        "val": "msrvtt_caption_test.json",  # as in the official implementation
        "test": "msrvtt_caption_test.json",
        "train7k": "msrvtt_caption_train7k.json",
        "train9k": "msrvtt_caption_train9k.json",
        "test1k": "msrvtt_caption_test1k.json",
    },
)
AUDIOCAPS_CAPTION = TaskFiles(
    "audiocaps-caption", "caption", AUDIOCAPS, _one_per_split("audiocaps_caption_{split}.json")
)

METRIC_OF: dict[Kind, str] = {"qa": "label", "caption": "caption"}


def media(tasks: Sequence[TaskFiles], root: Path) -> MediaSet:
    """List each media file once, in order of first appearance in the available files.

    Args:
        tasks: the tasks of one dataset, the default one first; their train, val and test files are
            read in this order.
        root: data root; it or its sub-folder of the dataset contains `annotation` and the media.

    Returns:
        The dataset with the tasks that have a file; missing files are logged.

    Raises:
        MissingFileError: there is no annotation file, or no folder of media.
        MalformedFileError: a file has an unexpected structure.
    """
    layout = tasks[0].layout
    files, missing = _available(tasks, root)
    first = next(iter(files)).parent
    parents = [first.parent, first, root, *(root / name for name in _dataset_folders(layout))]
    candidates = [parent / folder for parent in parents for folder in layout.folders]
    folder = find_folder(candidates, what=f"the {layout.modality} files of {layout.title}")
    keys = dict.fromkeys(
        record.file_name(layout.member) for file in files for record in stream_list(file)
    )
    if missing:
        warn_missing(layout.name, list(files), missing)
    items = tuple(MediaItem(key, folder, key, layout.modality) for key in keys)
    return MediaSet(layout.name, items, tuple(dict.fromkeys(files.values())), root)


def task(files: TaskFiles, root: Path) -> Task:
    """Return a task; files are read by `examples` alone, so `root` is unused."""
    del root
    metric = METRIC_OF[files.kind]
    return Task(files.name, files.kind, metric, tuple(files.files), partial(examples, files))


def examples(files: TaskFiles, split: str, root: Path) -> list[Example]:
    """Read the examples of one split.

    Args:
        files: annotation files of the task.
        split: one of the task's splits.
        root: data root.

    Returns:
        Questions in file order; the answers of "label" are both answers and references, its scores
        are the weights. Captions in order of the media's first appearance: one example per caption
        in training splits, one example per media item with all its captions in other splits.

    Raises:
        UnknownSplitError: there is no such split.
        MissingFileError: the split's file does not exist.
        MalformedFileError: the file has an unexpected structure.
    """
    check_split(split, tuple(files.files), owner=f"task {files.name}")
    file = files.find(split, root)
    records = stream_list(file)
    if files.kind == "qa":
        return check_unique_ids([_question(record, files.layout) for record in records], file=file)
    captions_of = _captions(records, files.layout)
    convert = _one_per_caption if split.startswith("train") else _one_per_item
    return [example for key, texts in captions_of.items() for example in convert(key, texts)]


msrvtt = partial(media, (MSRVTT_QA, MSRVTT_CAPTION))
msvd = partial(media, (MSVD_QA,))
audiocaps = partial(media, (AUDIOCAPS_CAPTION,))
msrvtt_qa = partial(task, MSRVTT_QA)
msvd_qa = partial(task, MSVD_QA)
msrvtt_captions = partial(task, MSRVTT_CAPTION)
audiocaps_captions = partial(task, AUDIOCAPS_CAPTION)


def _annotation_folders(layout: DatasetLayout) -> list[str]:
    names = _dataset_folders(layout)
    return [ANNOTATION_FOLDER, *(f"{name}/{ANNOTATION_FOLDER}" for name in names), *names]


def _dataset_folders(layout: DatasetLayout) -> tuple[str, ...]:
    return layout.name, layout.name.upper()


def _available(tasks: Sequence[TaskFiles], root: Path) -> tuple[dict[Path, str], list[str]]:
    """Find the available files with the names of their tasks, and the names of the missing ones.

    Raises:
        MissingFileError: no file exists; describes the first one.
    """
    available: dict[Path, str] = {}
    missing: dict[str, MissingFileError] = {}
    for entry in tasks:
        for split in entry.files:
            try:
                available.setdefault(entry.find(split, root), entry.name)
            except MissingFileError as error:
                if split in SPLITS:
                    missing.setdefault(entry.files[split], error)
    if not available:
        raise next(iter(missing.values()))
    return available, list(missing)


def _question(record: JsonRecord, layout: DatasetLayout) -> Example:
    label = record.scores("label")
    answers = tuple(map(intern, label))
    return Example(
        key=intern(record.file_name(layout.member)),
        question_id=record.identifier("question_id"),
        prompt=intern(record.text("question" if record.has("question") else "sent")),
        answers=answers,
        references=answers,
        weights=tuple(label.values()),
    )


def _captions(records: Iterable[JsonRecord], layout: DatasetLayout) -> dict[str, list[str]]:
    """Collect the captions of each media item, which may be spread over several records."""
    captions: dict[str, list[str]] = {}
    for record in records:
        captions.setdefault(record.file_name(layout.member), []).extend(record.text_list("caption"))
    return captions


def _one_per_caption(key: str, captions: Sequence[str]) -> list[Example]:
    return [
        Example(key, f"{key}#{number}", "", (caption,), (caption,))
        for number, caption in enumerate(captions)
    ]


def _one_per_item(key: str, captions: Sequence[str]) -> list[Example]:
    return [Example(key, key, "", tuple(captions), tuple(captions))]
