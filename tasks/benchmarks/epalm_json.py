"""MSRVTT, MSVD and AudioCaps, in the JSON lists that the released loaders read.

Questions:  {"video": "video0.mp4", "question": ..., "question_id": 7, "label": {"couch": 1.0}}
            ("sent" may stand for "question")
Captions:   {"video": "video0.mp4", "caption": "a man sings"} or a list of captions; "audio" for
            AudioCaps, e.g. "train/rqfQRErjfk8.wav"

A set's media are those that its files name: whoever needs the questions alone does without the
files of captions.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from sys import intern

from epalm.errors import MissingFileError
from epalm.tasks.readers.data_files import (
    JsonRecord,
    check_split,
    find_file,
    find_folder,
    with_unique_ids,
)
from epalm.tasks.readers.json_stream import stream_list
from epalm.tasks.types import Example, Kind, MediaItem, MediaSet, Modality, Task

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
"""What each task has; some have more."""

ANNOTATION_FOLDER = "annotation"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a set's files lie.

    Attributes:
        name: of the set of media; also the sub-folder of the data root that is looked into.
        modality: of its media.
        member: of each record, the one that names the medium.
        folders: where media may lie below the data root or its sub-folder.
        title: what the set is, for messages.
    """

    name: str
    modality: Modality
    member: str
    folders: tuple[str, ...]
    title: str


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """One task over a set.

    Attributes:
        name: of the task.
        kind: questions or captions.
        layout: of its set.
        files: split -> file; those of `SPLITS` first, of which a missing one is reported.
    """

    name: str
    kind: Kind
    layout: Layout
    files: Mapping[str, str]

    def find(self, split: str, root: Path) -> Path:
        """Where the file of a split lies.

        Raises:
            MissingFileError: it is not there.
        """
        title = self.layout.title
        return find_file(
            self.files[split],
            root=root,
            folders=_folders(self.layout),
            published=f"a file of {title} as the released code of eP-ALM reads it",
        )


def _one_per_split(pattern: str) -> dict[str, str]:
    return {split: pattern.format(split=split) for split in SPLITS}


VIDEO_FOLDERS = ("videos/all", "videos")

MSRVTT = Layout("msrvtt", "video", "video", VIDEO_FOLDERS, "MSRVTT (Xu et al. 2016)")
MSVD = Layout(
    "msvd", "video", "video", (*VIDEO_FOLDERS, "YouTubeClips"), "MSVD (Chen and Dolan 2011)"
)
AUDIOCAPS = Layout("audiocaps", "audio", "audio", ("audios",), "AudioCaps (Kim et al. 2019)")

MSRVTT_QA = QuestionRecord("msrvtt-qa", "qa", MSRVTT, _one_per_split("msrvtt_vqa_{split}.json"))
MSVD_QA = QuestionRecord("msvd-qa", "qa", MSVD, _one_per_split("msvd_vqa_{split}.json"))
MSRVTT_CAPTION = QuestionRecord(
    "msrvtt-caption",
    "caption",
    MSRVTT,
    {
        "train": "msrvtt_caption_train7k.json",
        "val": "msrvtt_caption_test.json",  # the released runs chose their checkpoint by it, too
        "test": "msrvtt_caption_test.json",
        "train7k": "msrvtt_caption_train7k.json",
        "train9k": "msrvtt_caption_train9k.json",
        "test1k": "msrvtt_caption_test1k.json",
    },
)
AUDIOCAPS_CAPTION = QuestionRecord(
    "audiocaps-caption", "caption", AUDIOCAPS, _one_per_split("audiocaps_caption_{split}.json")
)

METRIC_OF: dict[Kind, str] = {"qa": "label", "caption": "caption"}


def media(tasks: Sequence[QuestionRecord], root: Path) -> MediaSet:
    """Each medium once, in order of first appearance over the files that are there.

    Args:
        tasks: all over one set, the default one first; their train, val and test files are read in
            this order.
        root: data root; it or its sub-folder of the set's name holds `annotation` and the media.

    Returns:
        The set; its tasks are those of which a file is there. A note names the absent files.

    Raises:
        MissingFileError: none of the files, or no folder of media, is there.
        MalformedFileError: a file has another layout.
    """
    layout = tasks[0].layout
    found, absent = _present(tasks, root)
    first = next(iter(found)).parent
    bases = [first.parent, first, root, *(root / name for name in _own_folders(layout))]
    places = [base / folder for base in bases for folder in layout.folders]
    what = f"the {layout.modality} files of {layout.title}"
    folder = find_folder(list(dict.fromkeys(places)), what=what)
    keys = dict.fromkeys(
        record.file_name(layout.member) for file in found for record in stream_list(file)
    )
    if absent:
        logger.warning(
            "%s: only the media named in %s; not found: %s",
            layout.name,
            ", ".join(file.name for file in found),
            ", ".join(absent),
        )
    items = tuple(MediaItem(key, folder, key, layout.modality) for key in keys)
    return MediaSet(layout.name, items, tuple(dict.fromkeys(found.values())), root)


def task(asked: QuestionRecord, root: Path) -> Task:
    """The task; no file is read yet, and `root` therefore not used."""
    del root
    metric = METRIC_OF[asked.kind]
    return Task(asked.name, asked.kind, metric, tuple(asked.files), partial(examples, asked))


def examples(asked: QuestionRecord, split: str, root: Path) -> list[Example]:
    """The examples of one split.

    Args:
        asked: which task.
        split: one of the task's.
        root: data root.

    Returns:
        Questions in file order, all answers of "label" being both answers and references, its
        scores the weights. Captions in order of the media's first appearance: in training one
        example per caption, in other splits one per medium with all its captions.

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: the split's file is not there.
        MalformedFileError: it has another layout.
    """
    check_split(split, tuple(asked.files), owner=f"task {asked.name}")
    file = asked.find(split, root)
    records = stream_list(file)
    if asked.kind == "qa":
        return with_unique_ids([_question(one, asked.layout) for one in records], file=file)
    said = _captions(records, asked.layout)
    collect = _one_per_caption if split.startswith("train") else _one_per_medium
    return [example for key, captions in said.items() for example in collect(key, captions)]


msrvtt = partial(media, (MSRVTT_QA, MSRVTT_CAPTION))
msvd = partial(media, (MSVD_QA,))
audiocaps = partial(media, (AUDIOCAPS_CAPTION,))
msrvtt_qa = partial(task, MSRVTT_QA)
msvd_qa = partial(task, MSVD_QA)
msrvtt_captions = partial(task, MSRVTT_CAPTION)
audiocaps_captions = partial(task, AUDIOCAPS_CAPTION)


def _folders(layout: Layout) -> list[str]:
    names = _own_folders(layout)
    return [ANNOTATION_FOLDER, *(f"{name}/{ANNOTATION_FOLDER}" for name in names), *names]


def _own_folders(layout: Layout) -> tuple[str, ...]:
    return layout.name, layout.name.upper()


def _present(tasks: Sequence[QuestionRecord], root: Path) -> tuple[dict[Path, str], list[str]]:
    """The files that are there, each with its task's name, and the names of those that are not.

    Raises:
        MissingFileError: none is there; about the first.
    """
    found: dict[Path, str] = {}
    missing: dict[str, MissingFileError] = {}
    for asked in tasks:
        for split in asked.files:
            try:
                found.setdefault(asked.find(split, root), asked.name)
            except MissingFileError as error:
                if split in SPLITS:
                    missing.setdefault(asked.files[split], error)
    if not found:
        raise next(iter(missing.values()))
    return found, list(missing)


def _question(record: JsonRecord, layout: Layout) -> Example:
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


def _captions(records: Iterable[JsonRecord], layout: Layout) -> dict[str, list[str]]:
    """Medium -> its captions, over however many records they are spread."""
    said: dict[str, list[str]] = {}
    for record in records:
        said.setdefault(record.file_name(layout.member), []).extend(record.sentences("caption"))
    return said


def _one_per_caption(key: str, captions: Sequence[str]) -> list[Example]:
    return [
        Example(key, f"{key}#{number}", "", (caption,), (caption,))
        for number, caption in enumerate(captions)
    ]


def _one_per_medium(key: str, captions: Sequence[str]) -> list[Example]:
    return [Example(key, key, "", tuple(captions), tuple(captions))]
