"""Writers of published files, with the oddities that the real ones have.

Photos, clips and recordings are named, and their folders made, but nothing is in them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tasks.published import annotation, photo, question, write_karpathy, write_vqa

COCO_PHOTOS = {
    "train2014": ("COCO_train2014_000000000009.jpg", "COCO_train2014_000000000025.jpg"),
    "val2014": (
        "COCO_val2014_000000000042.jpg",
        "COCO_val2014_000000000073.jpg",
        "COCO_val2014_000000391895.jpg",
    ),
}
TEN = ["net", "net", " net", "Net", "the net", "net", "mesh", "mesh", "", "café"]


def write_json(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)


def _coco_photos(root: Path) -> None:
    nine, other = COCO_PHOTOS["train2014"]
    rest, val, test = COCO_PHOTOS["val2014"]
    said = ("A tray of food.", "Un plateau, à midi.\n")
    write_karpathy(
        root,
        "coco",
        [
            photo(nine, "train", *said, filepath="train2014", first_sentid=30),
            photo(other, "train", "A red cup.", filepath="train2014", first_sentid=40),
            photo(rest, "restval", "Skis.", filepath="val2014", first_sentid=10),
            photo(val, "val", "A bike.", "A red bike.", filepath="val2014", first_sentid=20),
            photo(test, "test", "A man.", "One man.", filepath="val2014", first_sentid=50),
        ],
    )
    _folders(root, *COCO_PHOTOS)


def _coco_questions() -> dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Part -> questions and annotations; the same question twice, ids as numbers and as texts."""
    asked: dict[str, list[Any]] = {
        "train2014": [
            (9, 9000, "What is it?", TEN),
            (9, 9001, "What is it?", ["yes"] * 10),
            (25, 25000, "Où est-il ?", ["là"] * 9 + ["ici"]),
        ],
        "val2014": [
            (42, 42000, "Is it cold?", ["no"] * 10),
            ("73", "73000", " What colour? ", ["red"] * 7 + ["dark red"] * 3),
            (391895, 391895000, "Where is he?", ["street"] * 10),
        ],
    }
    return {
        part: (
            [question(photo_id, number, text) for photo_id, number, text, _ in rows],
            [annotation(photo_id, number, said) for photo_id, number, _, said in reversed(rows)],
        )
        for part, rows in asked.items()
    }


def write_vqa2(root: Path) -> None:
    _coco_photos(root)
    for part, (questions, annotations) in _coco_questions().items():
        write_vqa(root, part, questions, annotations)


def write_vqa2_vlt5(root: Path) -> None:
    _coco_photos(root)
    nine, other = (name.removesuffix(".jpg") for name in COCO_PHOTOS["train2014"])
    val = COCO_PHOTOS["val2014"][1].removesuffix(".jpg")
    people = [{"answer": text, "answer_confidence": "yes", "answer_id": 1} for text in TEN]
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
    seen: dict[str, object] = {
        "img_id": val,
        "question_id": 73000,
        "sent": "What colour?",
        "label": {"red": 1.0},
    }
    for name, rows in {
        "karpathy_train": train,
        "karpathy_val": [seen],
        "train_standard": train,
    }.items():
        write_json(
            root / "vqa" / f"{name}.json", [row | group | {"answers": people} for row in rows]
        )


def write_vqa2_tests(root: Path) -> None:
    write_vqa2(root)
    for part in ("test2015", "test-dev2015"):
        asked = {"questions": [question(1, 1000, "What is it?"), question(14, 14000, "Pourquoi ?")]}
        write_json(root / f"v2_OpenEnded_mscoco_{part}_questions.json", asked)
    _folders(root, "test2015")


def write_okvqa(root: Path) -> None:
    _coco_photos(root)
    for part, (questions, annotations) in _coco_questions().items():
        for entry in annotations:
            for person in entry["answers"]:
                person |= {"raw_answer": person["answer"], "answer": "stem"}
        asked = {"task_type": "Open-Ended", "questions": questions}
        write_json(root / "okvqa" / f"OpenEnded_mscoco_{part}_questions.json", asked)
        said = {"question_types": {"one": "Vehicles"}, "annotations": annotations}
        write_json(root / "okvqa" / f"mscoco_{part}_annotations.json", said)


def _gqa_entry(photo_id: str, text: str, answer: str) -> dict[str, Any]:
    types = {"detailed": "existAttr", "semantic": "attr", "structural": "verify"}
    entry = {"imageId": photo_id, "question": text, "isBalanced": True, "types": types}
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
    _folders(folder, "images")


def write_gqa_vlt5(root: Path) -> None:
    for name, photo_id in {"train": "2354786", "valid": "77", "testdev": "n9"}.items():
        entry = {"img_id": photo_id, "question_id": f"{name}1", "sent": "Is it dark?"}
        rows = [entry | {"label": {"yes": 1.0}}, entry | {"question_id": 2, "label": {"no": 1.0}}]
        write_json(root / "GQA" / f"{name}.json", rows)
    _folders(root, "VG/VG_100K", "GQA/images")


def write_coco(root: Path) -> None:
    _coco_photos(root)


def write_flickr(name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        said = {"train": ("A dog.", "Un café."), "val": ("A cat.",), "test": ("A cup.", "Cups.")}
        photos = [
            photo(f"{number}.jpg", split, *captions, first_sentid=10 * number)
            for number, (split, captions) in enumerate(said.items())
        ]
        write_karpathy(root, name, photos)
        _folders(root, "images")

    return write


def write_nocaps(root: Path) -> None:
    domains = ("in-domain", "near-domain", "out-domain")
    images = [
        {"id": number, "file_name": f"00{number}ea.jpg", "domain": domain, "open_images_id": "x"}
        for number, domain in enumerate(domains)
    ]
    said = [
        {"id": 10 * number + place, "image_id": number, "caption": caption}
        for number in (2, 0, 1)
        for place, caption in enumerate(("A baby is standing. ", "Un bébé."))
    ]
    folder = root / "nocaps"
    write_json(
        folder / "nocaps_val_4500_captions.json",
        {"info": {}, "images": images, "annotations": said},
    )
    test = {"info": {}, "licenses": [], "images": [{"id": 0, "file_name": "00ff.jpg"}]}
    write_json(folder / "nocaps_test_image_info.json", test)
    _folders(folder, "images")


def _asked(video: str, number: object, text: str, **label: float) -> dict[str, Any]:
    return {"video": video, "question": text, "question_id": number, "label": label}


def write_video_questions(name: str, ending: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        folder = root / "annotation"
        train = [
            _asked(f"video0{ending}", 0, "what is on it?", couch=1.0, sofa=0.3),
            _asked(f"video0{ending}", "1", "what is on it?", couch=1),
            _asked(f"video7{ending}", 2, "où ?", là=1.0),
        ]
        write_json(folder / f"{name}_vqa_train.json", train)
        for number, split in enumerate(("val", "test"), start=8):
            one = _asked(f"video{number}{ending}", 0, "why?", fun=1.0)
            write_json(folder / f"{name}_vqa_{split}.json", [one])
        _folders(root, "videos/all")

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
    _folders(root, "videos/all")


def write_audiocaps(root: Path) -> None:
    for split, captions in {
        "train": ["A dog."],
        "val": ["Rain.", "Pluie d'été."],
        "test": ["A car."],
    }.items():
        record = {"audio": f"{split}/a.wav", "caption": captions}
        write_json(root / "annotation" / f"audiocaps_caption_{split}.json", [record])
        _folders(root, f"audios/{split}")


def write_released(root: Path) -> None:
    """All sets in one folder, as the released code of eP-ALM wants its data."""
    coco = root / "COCO"
    coco.mkdir(parents=True)
    write_vqa2_vlt5(coco)
    (coco / "vqa").rename(root / "vqa")
    (coco / "images").mkdir()
    for part in COCO_PHOTOS:
        (coco / part).rename(coco / "images" / part)
    write_gqa_vlt5(root)
    write_video_questions("msrvtt", ".mp4")(root / "MSRVTT")
    write_msrvtt_captions(root / "MSRVTT")
    write_video_questions("msvd", ".avi")(root / "MSVD")
    write_audiocaps(root / "audiocaps")
