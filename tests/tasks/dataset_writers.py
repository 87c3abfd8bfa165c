"""Write the files of published datasets, with the irregularities of the real ones.

The folders of images, videos and audio clips are created, but they are empty.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tasks.annotation_files import (
    annotation,
    karpathy_entry,
    question,
    write_karpathy,
    write_vqa,
)

COCO_IMAGES = {
    "train2014": ("COCO_train2014_000000000009.jpg", "COCO_train2014_000000000025.jpg"),
    "val2014": (
        "COCO_val2014_000000000042.jpg",
        "COCO_val2014_000000000073.jpg",
        "COCO_val2014_000000391895.jpg",
    ),
}
TEN_ANSWERS = ["net", "net", " net", "Net", "the net", "net", "mesh", "mesh", "", "café"]


def write_json(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _make_folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)


def _write_coco(root: Path) -> None:
    nine, other = COCO_IMAGES["train2014"]
    rest, val, test = COCO_IMAGES["val2014"]
    captions = ("A tray of food.", "Un plateau, à midi.\n")
    write_karpathy(
        root,
        "coco",
        [
            karpathy_entry(nine, "train", *captions, filepath="train2014", first_sentid=30),
            karpathy_entry(other, "train", "A red cup.", filepath="train2014", first_sentid=40),
            karpathy_entry(rest, "restval", "Skis.", filepath="val2014", first_sentid=10),
            karpathy_entry(
                val, "val", "A bike.", "A red bike.", filepath="val2014", first_sentid=20
            ),
            karpathy_entry(test, "test", "A man.", "One man.", filepath="val2014", first_sentid=50),
        ],
    )
    _make_folders(root, *COCO_IMAGES)


def _coco_questions() -> dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Part -> questions and annotations, with a repeated question, and number or string ids."""
    rows_of: dict[str, list[Any]] = {
        "train2014": [
            (9, 9000, "What is it?", TEN_ANSWERS),
            (9, 9001, "What is it?", ["yes"] * 10),
            (25, 25000, "Où est-il ?", ["là"] * 9 + ["ici"]),
        ],
        "val2014": [
            (42, 42000, "Is it cold?", ["no"] * 10),
            ("73", "73000", " What color? ", ["red"] * 7 + ["dark red"] * 3),
            (391895, 391895000, "Where is he?", ["street"] * 10),
        ],
    }
    return {
        part: (
            [question(image_id, number, text) for image_id, number, text, _ in rows],
            [annotation(image_id, number, texts) for image_id, number, _, texts in reversed(rows)],
        )
        for part, rows in rows_of.items()
    }


def write_vqa2(root: Path) -> None:
    _write_coco(root)
    for part, (questions, annotations) in _coco_questions().items():
        write_vqa(root, part, questions, annotations)


def write_vqa2_vlt5(root: Path) -> None:
    _write_coco(root)
    nine, other = (name.removesuffix(".jpg") for name in COCO_IMAGES["train2014"])
    val = COCO_IMAGES["val2014"][1].removesuffix(".jpg")
    human_answers = [
        {"answer": text, "answer_confidence": "yes", "answer_id": 1} for text in TEN_ANSWERS
    ]
    group = {"question_type": "what is", "answer_type": "other", "is_topk_optimal": True}
    train: list[dict[str, object]] = [
        {
            "img_id": nine,
            "question_id": 9000,
            "sent": "What is it?",
            "label": {"net": 1, "mesh": 0.6},
        },
        {"img_id": other, "question_id": "9001", "sent": "What is it?", "label": {}},
    ]
    val_question: dict[str, object] = {
        "img_id": val,
        "question_id": 73000,
        "sent": "What color?",
        "label": {"red": 1.0},
    }
    for name, rows in {
        "karpathy_train": train,
        "karpathy_val": [val_question],
        "train_standard": train,
    }.items():
        write_json(
            root / "vqa" / f"{name}.json",
            [row | group | {"answers": human_answers} for row in rows],
        )


def write_vqa2_tests(root: Path) -> None:
    write_vqa2(root)
    for part in ("test2015", "test-dev2015"):
        content = {
            "questions": [question(1, 1000, "What is it?"), question(14, 14000, "Pourquoi ?")]
        }
        write_json(root / f"v2_OpenEnded_mscoco_{part}_questions.json", content)
    _make_folders(root, "test2015")


def write_okvqa(root: Path) -> None:
    _write_coco(root)
    for part, (questions, annotations) in _coco_questions().items():
        for entry in annotations:
            for person in entry["answers"]:
                person |= {"raw_answer": person["answer"], "answer": "stem"}
        question_file = {"task_type": "Open-Ended", "questions": questions}
        write_json(root / "okvqa" / f"OpenEnded_mscoco_{part}_questions.json", question_file)
        annotation_file = {"question_types": {"one": "Vehicles"}, "annotations": annotations}
        write_json(root / "okvqa" / f"mscoco_{part}_annotations.json", annotation_file)


def _gqa_entry(image_id: str, text: str, answer: str) -> dict[str, Any]:
    types = {"detailed": "existAttr", "semantic": "attr", "structural": "verify"}
    entry = {"imageId": image_id, "question": text, "isBalanced": True, "types": types}
    return entry | {
        "answer": answer,
        "fullAnswer": f"Yes, {answer}.",
        "semantic": [{"argument": "x"}],
    }


def write_gqa(root: Path) -> None:
    folder = root / "gqa"
    train = {
        "02930152": _gqa_entry("2354786", "Is the sky dark?", "yes"),
        "02930153": _gqa_entry("2354786", "Is the sky dark?", "yes"),
        "07333408": _gqa_entry("n161313", "Is the café open?", "no"),
    }
    write_json(folder / "train_balanced_questions.json", train)
    write_json(
        folder / "val_balanced_questions.json", {"1": _gqa_entry("77", "What is it?", "cup")}
    )
    dev = {"2": _gqa_entry("n9", "Who is it?", "man")}
    write_json(folder / "testdev_balanced_questions.json", dev)
    test = {"3": {"imageId": "n10", "question": "Who?", "isBalanced": True}}
    write_json(folder / "test_balanced_questions.json", test)
    _make_folders(folder, "images")


def write_gqa_vlt5(root: Path) -> None:
    for name, image_id in {"train": "2354786", "valid": "77", "testdev": "n9"}.items():
        entry = {"img_id": image_id, "question_id": f"{name}1", "sent": "Is it dark?"}
        rows = [entry | {"label": {"yes": 1.0}}, entry | {"question_id": 2, "label": {"no": 1.0}}]
        write_json(root / "GQA" / f"{name}.json", rows)
    _make_folders(root, "VG/VG_100K", "GQA/images")


def write_coco(root: Path) -> None:
    _write_coco(root)


def write_flickr(name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        captions_of = {
            "train": ("A dog.", "Un café."),
            "val": ("A cat.",),
            "test": ("A cup.", "Cups."),
        }
        images = [
            karpathy_entry(f"{number}.jpg", split, *captions, first_sentid=10 * number)
            for number, (split, captions) in enumerate(captions_of.items())
        ]
        write_karpathy(root, name, images)
        _make_folders(root, "images")

    return write


def write_nocaps(root: Path) -> None:
    domains = ("in-domain", "near-domain", "out-domain")
    images = [
        {"id": number, "file_name": f"00{number}ea.jpg", "domain": domain, "open_images_id": "x"}
        for number, domain in enumerate(domains)
    ]
    annotations = [
        {"id": 10 * number + index, "image_id": number, "caption": caption}
        for number in (2, 0, 1)
        for index, caption in enumerate(("A baby is standing. ", "Un bébé."))
    ]
    folder = root / "nocaps"
    write_json(
        folder / "nocaps_val_4500_captions.json",
        {"info": {}, "images": images, "annotations": annotations},
    )
    test = {"info": {}, "licenses": [], "images": [{"id": 0, "file_name": "00ff.jpg"}]}
    write_json(folder / "nocaps_test_image_info.json", test)
    _make_folders(folder, "images")


def _video_question(video: str, number: object, text: str, **label: float) -> dict[str, Any]:
    return {"video": video, "question": text, "question_id": number, "label": label}


def write_video_questions(name: str, ending: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        folder = root / "annotation"
        train = [
            _video_question(f"video0{ending}", 0, "what is on it?", couch=1.0, sofa=0.3),
            _video_question(f"video0{ending}", "1", "what is on it?", couch=1),
            _video_question(f"video7{ending}", 2, "où ?", là=1.0),
        ]
        write_json(folder / f"{name}_vqa_train.json", train)
        for number, split in enumerate(("val", "test"), start=8):
            question = _video_question(f"video{number}{ending}", 0, "why?", fun=1.0)
            write_json(folder / f"{name}_vqa_{split}.json", [question])
        _make_folders(root, "videos/all")

    return write


def write_msrvtt_captions(root: Path) -> None:
    train = [
        {"video": "video7.mp4", "caption": ["A man runs.", " Running. "]},
        {"video": "video6.mp4", "caption": "Un café."},
    ]
    test = [{"video": "video9.mp4", "caption": ["Two dogs.", "Dogs play."]}]
    more = [*train, {"video": "video5.mp4", "caption": "A song."}]
    files = {"train7k": train, "test": test, "train9k": more, "test1k": test}
    for name, records in files.items():
        write_json(root / "annotation" / f"msrvtt_caption_{name}.json", records)
    _make_folders(root, "videos/all")


def write_audiocaps(root: Path) -> None:
    for split, captions in {
        "train": ["A dog."],
        "val": ["Rain.", "Pluie d'été."],
        "test": ["A car."],
    }.items():
        record = {"audio": f"{split}/a.wav", "caption": captions}
        write_json(root / "annotation" / f"audiocaps_caption_{split}.json", [record])
        _make_folders(root, f"audios/{split}")


def write_official_data_folder(root: Path) -> None:
    """Write the data folder of the official eP-ALM implementation, with all datasets."""
    coco = root / "COCO"
    coco.mkdir(parents=True)
    write_vqa2_vlt5(coco)
    (coco / "vqa").rename(root / "vqa")
    (coco / "images").mkdir()
    for part in COCO_IMAGES:
        (coco / part).rename(coco / "images" / part)
    write_gqa_vlt5(root)
    write_video_questions("msrvtt", ".mp4")(root / "MSRVTT")
    write_msrvtt_captions(root / "MSRVTT")
    write_video_questions("msvd", ".avi")(root / "MSVD")
    write_audiocaps(root / "audiocaps")
