"""Tiny data of five benchmarks, as the files that epalm reads and as the datasets of lmms-eval.

Both have the same images, questions and answers. The images are those of `epalm-demo`. The datasets
are in a folder `lmms-lab-encoder`, where the library datasets finds them before it asks the hub if
it runs in the folder above: so lmms-eval's own task files are used as they are.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Image

from epalm.demo.demo_dataset import IMAGE_QUESTION_KINDS
from epalm.demo.worlds.scene_questions import Question, all_scene_questions, noun_phrase
from epalm.demo.worlds.scenes import Scene, draw_scene, make_scene

TRAIN_IMAGES, OTHER_IMAGES = 400, 30
"""Images for training, and in each of the evaluated splits."""

SUFFIX = "\nAnswer the question using a single word or phrase."
"""What lmms-eval's tasks vqav2_val and gqa append to each question."""

HUB_USER = "lmms-lab-encoder"
"""The owner of lmms-eval's datasets on the hub."""


CHOICES = ("yes", "no", "1", "2", "3", "4", "5", "6", "circle", "square", "triangle", "star")
"""All answers to the questions: a closed vocabulary."""

CHOICES_TASK = "gqa_choices"
"""Name of the task that `write_choices_task` writes."""


@dataclass(frozen=True)
class Sample:
    """An image with its questions and captions.

    Attributes:
        number: number of the image, its id in all files.
        file: path of the image.
        questions: questions with one answer.
        captions: reference captions.
    """

    number: int
    file: Path
    questions: list[Question]
    captions: list[str]


def write_data(root: Path) -> None:
    """Write all files to a folder that does not exist yet."""
    coco = root / "data"
    train = _samples(coco / "train2014", "COCO_train2014_{:012d}.jpg", TRAIN_IMAGES, first=1)
    val = _samples(coco / "val2014", "COCO_val2014_{:012d}.jpg", OTHER_IMAGES, first=1001)
    _write_vqa(coco, train, val)
    _write_karpathy(coco, "coco", train, val)
    gqa = _samples(coco / "gqa/images", "{}.jpg", OTHER_IMAGES, first=2001)
    _write_gqa(coco, gqa)
    nocaps = _samples(coco / "nocaps/images", "{:016x}.jpg", OTHER_IMAGES, first=3001)
    _write_nocaps(coco, nocaps)
    flickr = _samples(coco / "flickr30k/images", "{}.jpg", OTHER_IMAGES, first=4001)
    _write_karpathy(coco / "flickr30k", "flickr30k", [], flickr)
    _write_suffixed(coco, root / "data-suffixed")
    _write_datasets(root / HUB_USER, val, gqa, nocaps, flickr)


def human_answers(question: Question, number: int) -> list[str]:
    """Ten answers: of every fourth question all "Circle.", of the others one or two differ."""
    if number % 4 == 0:
        return [f"{question.answer.capitalize()}."] * 10
    return [question.answer] * (8 + number % 2) + ["nothing"] * (2 - number % 2)


def write_choices_task(folder: Path) -> None:
    """Write a task file that turns lmms-eval's gqa into a task of choices."""
    import lmms_eval.tasks

    included = Path(lmms_eval.tasks.__file__).parent / "gqa" / "gqa.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"include: {included}",
        f"task: {CHOICES_TASK}",
        "output_type: multiple_choice",
        "generation_kwargs: null",
        f"doc_to_choice: {json.dumps(CHOICES)}",
        "metric_list:",
        "- {metric: acc, aggregation: mean, higher_is_better: true}",
    ]
    (folder / f"{CHOICES_TASK}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _samples(folder: Path, name: str, count: int, *, first: int) -> list[Sample]:
    folder.mkdir(parents=True)
    samples = []
    for number in range(first, first + count):
        scene = make_scene(f"lmms-eval/{number}")
        file = folder / name.format(number)
        draw_scene(scene).save(file, quality=95)
        questions = [
            question
            for question in all_scene_questions(scene)
            if question.kind in IMAGE_QUESTION_KINDS
        ]
        samples.append(Sample(number, file, questions, _captions(scene)))
    return samples


def _captions(scene: Scene) -> list[str]:
    """References of different words; the first one is the form that the language model knows."""
    first, second = scene.groups
    pairs = [(first, second), (second, first)]
    texts = [", ".join(f"{one.side} {noun_phrase(one)}" for one in pair) for pair in pairs]
    return [*texts, f"{noun_phrase(first)} and {noun_phrase(second)}"]


def _write_json(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def _question_id(sample: Sample, index: int) -> int:
    return 10 * sample.number + index


def _people(answers: list[str]) -> list[dict[str, Any]]:
    return [
        {"answer": answer, "answer_confidence": "yes", "answer_id": number}
        for number, answer in enumerate(answers, start=1)
    ]


def _write_vqa(root: Path, train: list[Sample], val: list[Sample]) -> None:
    for part, samples in (("train2014", train), ("val2014", val)):
        questions, annotations = [], []
        for sample in samples:
            for index, question in enumerate(sample.questions):
                ids = {"image_id": sample.number, "question_id": _question_id(sample, index)}
                number = _question_id(sample, index)
                answers = [question.answer] * 10 if samples is train else None
                people = _people(answers or human_answers(question, number))
                questions.append(ids | {"question": question.text})
                annotations.append(
                    ids
                    | {"question_type": question.kind, "answer_type": "other", "answers": people}
                    | {"multiple_choice_answer": question.answer}
                )
        _write_json(
            root / f"v2_OpenEnded_mscoco_{part}_questions.json",
            {"data_subtype": part, "questions": questions},
        )
        _write_json(
            root / f"v2_mscoco_{part}_annotations.json",
            {"data_subtype": part, "annotations": annotations},
        )


def _write_karpathy(root: Path, name: str, train: list[Sample], val: list[Sample]) -> None:
    """The splits train, and val and test with the same images for COCO, test alone for Flickr."""
    images = []
    for split, samples in (("train", train), ("val", val)):
        for sample in samples:
            sentences = [
                {"raw": text, "tokens": text.split(), "sentid": 10 * sample.number + index}
                for index, text in enumerate(sample.captions)
            ]
            entry = {"filename": sample.file.name, "split": split, "sentences": sentences}
            if name == "coco":
                entry["filepath"] = sample.file.parent.name
            else:
                entry["split"] = "test"
            images.append(entry)
    _write_json(root / f"dataset_{name}.json", {"dataset": name, "images": images})


def _write_gqa(root: Path, samples: list[Sample]) -> None:
    questions = {
        str(_question_id(sample, index)): {
            "imageId": str(sample.number),
            "question": question.text,
            "answer": question.answer,
        }
        for sample in samples
        for index, question in enumerate(sample.questions)
    }
    _write_json(root / "gqa/testdev_balanced_questions.json", questions)


def _write_nocaps(root: Path, samples: list[Sample]) -> None:
    images = [{"id": one.number, "file_name": one.file.name} for one in samples]
    annotations = [
        {"id": 10 * one.number + index, "image_id": one.number, "caption": text}
        for one in samples
        for index, text in enumerate(one.captions)
    ]
    content = {"images": images, "annotations": annotations}
    _write_json(root / "nocaps/nocaps_val_4500_captions.json", content)


def _write_suffixed(root: Path, target: Path) -> None:
    """The question files of VQA v2 and GQA again, with lmms-eval's suffix after each question."""
    target.mkdir()
    for file in root.glob("v2_*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        for entry in content.get("questions", ()):
            entry["question"] += SUFFIX
        _write_json(target / file.name, content)
    shutil.copy(root / "dataset_coco.json", target)
    gqa = json.loads((root / "gqa/testdev_balanced_questions.json").read_text(encoding="utf-8"))
    for entry in gqa.values():
        entry["question"] += SUFFIX
    _write_json(target / "gqa/testdev_balanced_questions.json", gqa)


def _write_datasets(
    root: Path, val: list[Sample], gqa: list[Sample], nocaps: list[Sample], flickr: list[Sample]
) -> None:
    captions = [
        {"image": str(one.file), "id": one.number, "question_id": one.file.name}
        | {"answer": one.captions}
        for one in val
    ]
    _save(root / "COCO-Caption", {"default": ("val", captions)})
    _save(root / "VQAv2", {"default": ("validation", _vqa_rows(val))})
    questions = [
        {"id": str(_question_id(one, index)), "imageId": str(one.number)}
        | {"question": question.text, "answer": question.answer}
        for one in gqa
        for index, question in enumerate(one.questions)
    ]
    images = [{"id": str(one.number), "image": str(one.file)} for one in gqa]
    _save(
        root / "GQA",
        {
            "testdev_balanced_instructions": ("testdev", questions),
            "testdev_balanced_images": ("testdev", images),
        },
    )
    rows = [
        {"image": str(one.file), "image_id": one.number, "annotations_captions": one.captions}
        for one in nocaps
    ]
    _save(root / "NoCaps", {"default": ("validation", rows)})
    rows = [
        {"image": str(one.file), "img_id": str(one.number), "caption": one.captions}
        for one in flickr
    ]
    _save(root / "flickr30k", {"default": ("test", rows)})


def _vqa_rows(samples: list[Sample]) -> list[dict[str, Any]]:
    return [
        {
            "image": str(sample.file),
            "image_id": sample.number,
            "question_id": _question_id(sample, index),
            "question": question.text,
            "answers": _people(human_answers(question, _question_id(sample, index))),
        }
        for sample in samples
        for index, question in enumerate(sample.questions)
    ]


def _save(folder: Path, configurations: dict[str, tuple[str, list[dict[str, Any]]]]) -> None:
    """Write parquet files with the images in them, and the README.md that names their splits."""
    lines = ["---", "configs:"]
    for name, (split, rows) in configurations.items():
        dataset = Dataset.from_list(rows)
        if "image" in dataset.column_names:
            dataset = dataset.cast_column("image", Image())
        file = folder / name / f"{split}.parquet"
        file.parent.mkdir(parents=True)
        dataset.to_parquet(file)
        lines += [f"- config_name: {name}", "  data_files:", f"  - split: {split}"]
        lines += [f"    path: {name}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
