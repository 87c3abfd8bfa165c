"""The file layouts of every task, with the members that its files require."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.tasks import cc3m_files, dataset_writers

Member = tuple[str | int, ...]
"""Path of a value in a JSON file."""


@dataclass(frozen=True)
class DatasetLayout:
    """The files of one task in one layout.

    Attributes:
        task: name of the task.
        dataset: name of the dataset.
        write: function that writes the files to a data root.
        train: split for training; empty if there is none.
        answered: splits with answers.
        unanswered: splits without answers.
        required: file, relative to the data root -> required members.
        media: folders of images, videos or audio clips.
    """

    task: str
    dataset: str
    write: Callable[[Path], None]
    train: str
    answered: tuple[str, ...]
    required: dict[str, tuple[Member, ...]]
    media: tuple[str, ...]
    unanswered: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        splits = (self.train, *self.answered, *self.unanswered)
        return tuple(dict.fromkeys(split for split in splits if split))


def _vqa_members(questions: str, annotations: str, answer: str) -> dict[str, tuple[Member, ...]]:
    head = ("questions", 0)
    return {
        questions: (
            ("questions",),
            *((*head, name) for name in ("image_id", "question_id", "question")),
        ),
        annotations: (
            ("annotations",),
            ("annotations", 0, "question_id"),
            ("annotations", 0, "question_type"),
            ("annotations", 0, "answer_type"),
            ("annotations", 0, "answers"),
            ("annotations", 0, "answers", 0, answer),
        ),
    }


def _karpathy_members(name: str) -> dict[str, tuple[Member, ...]]:
    names = ("filename", "split", "sentences")
    return {
        f"dataset_{name}.json": (
            ("images",),
            *(("images", 0, member) for member in names),
            ("images", 0, "sentences", 0, "raw"),
        )
    }


def _list_members(*names: str) -> tuple[Member, ...]:
    return tuple((0, name) for name in names)


def _video_qa(name: str, ending: str) -> DatasetLayout:
    members = _list_members("video", "question", "question_id", "label")
    return DatasetLayout(
        task=f"{name}-qa",
        dataset=name,
        write=dataset_writers.write_video_questions(name, ending),
        train="train",
        answered=("val", "test"),
        required={
            f"annotation/{name}_vqa_{split}.json": members for split in ("train", "val", "test")
        },
        media=("videos",),
    )


def _flickr(name: str) -> DatasetLayout:
    return DatasetLayout(
        task=f"{name}-caption",
        dataset=name,
        write=dataset_writers.write_flickr(name),
        train="train",
        answered=("val", "test"),
        required=_karpathy_members(name),
        media=("images",),
    )


GQA_MEMBERS = (("02930152", "imageId"), ("02930152", "question"), ("02930152", "answer"))

LAYOUTS: dict[str, DatasetLayout] = {
    "vqa2": DatasetLayout(
        task="vqa2",
        dataset="coco",
        write=dataset_writers.write_vqa2,
        train="karpathy_train",
        answered=("karpathy_val", "karpathy_test", "standard_train", "standard_val"),
        required=_vqa_members(
            "v2_OpenEnded_mscoco_val2014_questions.json",
            "v2_mscoco_val2014_annotations.json",
            "answer",
        ),
        media=("train2014", "val2014"),
    ),
    "vqa2 for submission": DatasetLayout(
        task="vqa2",
        dataset="coco-test2015",
        write=dataset_writers.write_vqa2_tests,
        train="",
        answered=(),
        unanswered=("test2015", "test-dev2015"),
        required={
            "v2_OpenEnded_mscoco_test2015_questions.json": (
                ("questions",),
                ("questions", 1, "image_id"),
                ("questions", 1, "question"),
            )
        },
        media=("test2015",),
    ),
    "vqa2 as VL-T5": DatasetLayout(
        task="vqa2",
        dataset="coco",
        write=dataset_writers.write_vqa2_vlt5,
        train="karpathy_train",
        answered=("karpathy_val", "standard_train"),
        required={
            "vqa/karpathy_train.json": (
                *_list_members("img_id", "question_id", "sent", "label"),
                (0, "answers", 0, "answer"),
            )
        },
        media=("train2014", "val2014"),
    ),
    "okvqa": DatasetLayout(
        task="okvqa",
        dataset="coco",
        write=dataset_writers.write_okvqa,
        train="train",
        answered=("val", "test"),
        required=_vqa_members(
            "okvqa/OpenEnded_mscoco_train2014_questions.json",
            "okvqa/mscoco_train2014_annotations.json",
            "raw_answer",
        ),
        media=("train2014", "val2014"),
    ),
    "gqa": DatasetLayout(
        task="gqa",
        dataset="gqa",
        write=dataset_writers.write_gqa,
        train="train",
        answered=("val", "valid", "testdev"),
        unanswered=("test",),
        required={"gqa/train_balanced_questions.json": GQA_MEMBERS},
        media=("gqa/images",),
    ),
    "gqa as VL-T5": DatasetLayout(
        task="gqa",
        dataset="gqa",
        write=dataset_writers.write_gqa_vlt5,
        train="train",
        answered=("val", "valid", "testdev"),
        required={"GQA/valid.json": _list_members("img_id", "question_id", "sent", "label")},
        media=("VG", "GQA/images"),
    ),
    "coco-caption": DatasetLayout(
        task="coco-caption",
        dataset="coco",
        write=dataset_writers.write_coco,
        train="train",
        answered=("val", "test", "karpathy_val"),
        required=_karpathy_members("coco"),
        media=("train2014", "val2014"),
    ),
    "flickr8k-caption": _flickr("flickr8k"),
    "flickr30k-caption": _flickr("flickr30k"),
    "nocaps-caption": DatasetLayout(
        task="nocaps-caption",
        dataset="nocaps",
        write=dataset_writers.write_nocaps,
        train="",
        answered=("val",),
        unanswered=("test",),
        required={
            "nocaps/nocaps_val_4500_captions.json": (
                ("images",),
                ("images", 0, "id"),
                ("images", 0, "file_name"),
                ("annotations",),
                ("annotations", 0, "image_id"),
                ("annotations", 0, "caption"),
            )
        },
        media=("nocaps/images",),
    ),
    "cc3m-caption": DatasetLayout(
        task="cc3m-caption",
        dataset="cc3m",
        write=cc3m_files.write_cc3m_table,
        train="train",
        answered=("val",),
        required={},
        media=(),
    ),
    "cc3m-caption in shards": DatasetLayout(
        task="cc3m-caption",
        dataset="cc3m",
        write=cc3m_files.write_cc3m_shards,
        train="train",
        answered=("val",),
        required={},
        media=("cc3m",),
    ),
    "cc3m-caption in tar files": DatasetLayout(
        task="cc3m-caption",
        dataset="cc3m",
        write=cc3m_files.write_cc3m_tars,
        train="train",
        answered=("val",),
        required={},
        media=("cc3m",),
    ),
    "msrvtt-qa": _video_qa("msrvtt", ".mp4"),
    "msvd-qa": _video_qa("msvd", ".avi"),
    "msrvtt-caption": DatasetLayout(
        task="msrvtt-caption",
        dataset="msrvtt",
        write=dataset_writers.write_msrvtt_captions,
        train="train",
        answered=("val", "test", "train7k", "train9k", "test1k"),
        required={
            f"annotation/msrvtt_caption_{name}.json": _list_members("video", "caption")
            for name in ("train7k", "test", "train9k", "test1k")
        },
        media=("videos",),
    ),
    "audiocaps-caption": DatasetLayout(
        task="audiocaps-caption",
        dataset="audiocaps",
        write=dataset_writers.write_audiocaps,
        train="train",
        answered=("val", "test"),
        required={
            f"annotation/audiocaps_caption_{split}.json": _list_members("audio", "caption")
            for split in ("train", "val", "test")
        },
        media=("audios",),
    ),
}
