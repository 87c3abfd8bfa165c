"""Write small annotation files in their published formats."""

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def shared_data(name: str) -> Path:
    """Return the folder of a real dataset, or skip the test if it is missing."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs the dataset {name} in ../shared/data next to the repository")
    return SHARED / name


def karpathy_entry(
    filename: str, split: str, *captions: str, filepath: str = "", first_sentid: int = 0
) -> dict[str, Any]:
    """One image of a Karpathy file."""
    sentences = [
        {"tokens": text.lower().split(), "raw": text, "imgid": 0, "sentid": first_sentid + index}
        for index, text in enumerate(captions)
    ]
    entry = {"filename": filename, "imgid": 0, "split": split, "sentences": sentences}
    return entry | ({"filepath": filepath} if filepath else {})


def write_karpathy(root: Path, name: str, images: list[dict[str, Any]]) -> Path:
    """Write dataset_<name>.json."""
    file = root / f"dataset_{name}.json"
    file.write_text(json.dumps({"dataset": name, "images": images}, ensure_ascii=False), "utf-8")
    return file


def question(image_id: int | str, question_id: int | str, text: str) -> dict[str, Any]:
    """One entry of a VQA v2 question file."""
    return {"image_id": image_id, "question": text, "question_id": question_id}


def annotation(image_id: int | str, question_id: int | str, answers: list[str]) -> dict[str, Any]:
    """One entry of a VQA v2 annotation file."""
    human_answers = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": index}
        for index, answer in enumerate(answers, start=1)
    ]
    return {
        "question_type": "what is",
        "multiple_choice_answer": answers[0],
        "answers": human_answers,
        "image_id": image_id,
        "answer_type": "other",
        "question_id": question_id,
    }


def write_vqa(
    root: Path, part: str, questions: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> None:
    """Write the question and the annotation file of train2014 or val2014."""
    head = {"info": {"version": "2.0"}, "license": {}, "data_type": "mscoco", "data_subtype": part}
    question_file = head | {"task_type": "Open-Ended", "questions": questions}
    annotation_file = head | {"annotations": annotations}
    (root / f"v2_OpenEnded_mscoco_{part}_questions.json").write_text(json.dumps(question_file))
    (root / f"v2_mscoco_{part}_annotations.json").write_text(json.dumps(annotation_file))
