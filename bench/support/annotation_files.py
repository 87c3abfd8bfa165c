"""Annotation files in the published formats and sizes, with random contents.

Members, their order and the lengths of texts follow the published files, since they determine the
size of a file and the time to read it. Members that epalm does not read are included.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from random import Random

VQA2 = {"train2014": (443_757, 82_783), "val2014": (214_354, 40_504)}
"""Part -> number of questions and images (Goyal et al. 2017)."""

KARPATHY = (
    ("train2014", "train", 82_783),
    ("val2014", "restval", 30_504),
    ("val2014", "val", 5_000),
    ("val2014", "test", 5_000),
)
"""Folder, split and number of images (Karpathy and Fei-Fei 2015)."""

VLT5_QUESTIONS, VLT5_IMAGES = 605_102, 113_287
"""Number of questions and images of karpathy_train.json (Cho et al. 2021)."""

GQA = {"train": (943_000, 72_140), "val": (132_062, 10_234), "testdev": (12_578, 398)}
"""Split -> number of balanced questions and images (Hudson and Manning 2019)."""

MSRVTT_QA = {"train": (158_581, 6_513), "val": (12_278, 497), "test": (72_821, 2_990)}
"""Split -> number of questions and videos (Xu et al. 2017)."""

KINDS = ("what is the", "is the", "how many", "what color is the", "none of the above")
CERTAINTIES = ("yes", "yes", "maybe", "no")
LETTERS = "abcdefghijklmnopqrstuvwxyz"

Entry = dict[str, object]


class Texts:
    """Random words and sentences; a few words are frequent and most are rare, as in language.

    Args:
        seed: random seed of the texts.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self._words = [self._word(2 + number % 6) for number in range(10_000)]
        self._chances = list(accumulate(1 / (rank + 5) for rank in range(len(self._words))))

    def _word(self, letters: int) -> str:
        return "".join(self.random.choices(LETTERS, k=letters))

    def words(self, count: int) -> list[str]:
        """Random words from a vocabulary of 10,000, with 4.5 letters on average."""
        return self.random.choices(self._words, cum_weights=self._chances, k=count)

    def sentence(self, shortest: int, longest: int, end: str) -> str:
        """A sentence of `shortest` to `longest` words."""
        return " ".join(self.words(self.random.randint(shortest, longest))).capitalize() + end

    def question(self) -> str:
        """A question of 4 to 8 words; VQA's have 6.2 on average."""
        return self.sentence(4, 8, "?")

    def people(self) -> list[Entry]:
        """The partly agreeing answers of ten people to one question."""
        answers = self.random.choices(self.words(3), weights=(6, 2, 1), k=10)
        certainties = self.random.choices(CERTAINTIES, k=10)
        return [
            {"answer": answer, "answer_confidence": certainty, "answer_id": number}
            for number, (answer, certainty) in enumerate(
                zip(answers, certainties, strict=True), start=1
            )
        ]


def write_coco(root: Path, share: float) -> None:
    """Write VQA v2's official files of both parts, and Karpathy's captions.

    Args:
        root: data root.
        share: fraction of the published size.
    """
    for part, sizes in VQA2.items():
        images = list(_owners(*sizes, share))
        head = f'{{"info": {{}}, "license": {{}}, "data_subtype": "{part}", '
        file = root / f"v2_OpenEnded_mscoco_{part}_questions.json"
        _write(file, _questions(images), head=head + '"questions": [', tail="]}")
        file = root / f"v2_mscoco_{part}_annotations.json"
        _write(file, _annotations(images), head=head + '"annotations": [', tail="]}")
        (root / part).mkdir()
    head = '{"dataset": "coco", "images": ['
    _write(root / "dataset_coco.json", _captioned(share), head=head, tail="]}")


def write_vlt5(root: Path, share: float) -> None:
    """Write VL-T5's list of VQA v2's training questions, with the answers of ten people."""
    images = _owners(VLT5_QUESTIONS, VLT5_IMAGES, share)
    _write(root / "vqa" / "karpathy_train.json", _listed(images))


def write_gqa(root: Path, share: float) -> None:
    """Write GQA's official files of train, val and testdev."""
    for number, (split, sizes) in enumerate(GQA.items()):
        file = root / "gqa" / f"{split}_balanced_questions.json"
        _write(file, _compositional(_owners(*sizes, share), number), head="{", tail="}")
    (root / "gqa" / "images").mkdir()


def write_msrvtt(root: Path, share: float) -> None:
    """Write MSRVTT-QA's three files."""
    first = 0
    for split, (questions, clips) in MSRVTT_QA.items():
        owners = _owners(questions, clips, share)
        _write(root / "annotation" / f"msrvtt_vqa_{split}.json", _filmed(owners, first))
        first += clips
    (root / "videos").mkdir()


WRITERS = {"coco": write_coco, "vlt5": write_vlt5, "gqa": write_gqa, "msrvtt": write_msrvtt}
"""Name of a data root -> function that writes its files."""


def _write(
    file: Path, entries: Iterable[Entry | tuple[str, Entry]], *, head: str = "[", tail: str = "]"
) -> None:
    """Write a JSON file entry by entry; entries with a name become members of an object."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        stream.write(head)
        for number, entry in enumerate(entries):
            name, value = entry if isinstance(entry, tuple) else ("", entry)
            named = f'"{name}": ' if name else ""
            stream.write(", " * bool(number) + named + json.dumps(value))
        stream.write(tail)


def _owners(questions: int, images: int, share: float) -> Iterator[int]:
    """The image that each question is about."""
    questions, images = _fewer(questions, share), _fewer(images, share)
    return (number * images // questions for number in range(questions))


def _fewer(number: int, share: float) -> int:
    return max(1, round(share * number))


def _image_id(image: int) -> int:
    return 5 * image + 9


def _questions(images: Iterable[int]) -> Iterator[Entry]:
    texts = Texts(0)
    for number, image in enumerate(images):
        text = texts.question()
        yield {"image_id": _image_id(image), "question": text, "question_id": 1_000_000 + number}


def _annotations(images: Iterable[int]) -> Iterator[Entry]:
    texts = Texts(1)
    for number, image in enumerate(images):
        people = texts.people()
        yield {
            "question_type": KINDS[number % len(KINDS)],
            "multiple_choice_answer": people[0]["answer"],
            "answers": people,
            "image_id": _image_id(image),
            "answer_type": "other",
            "question_id": 1_000_000 + number,
        }


def _captioned(share: float) -> Iterator[Entry]:
    """5 captions per image, each of 8 to 13 words; COCO's have 10.5 on average."""
    texts, number, first = Texts(2), 0, {"train2014": 0, "val2014": 0}
    for folder, split, images in KARPATHY:
        for image in range(first[folder], first[folder] + _fewer(images, share)):
            ids = list(range(5 * number, 5 * number + 5))
            yield {
                "filepath": folder,
                "sentids": ids,
                "filename": f"COCO_{folder}_{_image_id(image):012d}.jpg",
                "imgid": number,
                "split": split,
                "sentences": [_sentence(texts, number, sentence_id) for sentence_id in ids],
                "cocoid": _image_id(image),
            }
            number += 1
            first[folder] = image + 1


def _sentence(texts: Texts, image: int, sentence_id: int) -> Entry:
    raw = texts.sentence(8, 13, ".")
    tokens = raw.removesuffix(".").lower().split()
    return {"tokens": tokens, "raw": raw, "imgid": image, "sentid": sentence_id}


def _listed(images: Iterable[int]) -> Iterator[Entry]:
    texts = Texts(3)
    for number, image in enumerate(images):
        people = texts.people()
        yield {
            "img_id": f"COCO_train2014_{_image_id(image):012d}",
            "question_id": 1_000_000 + number,
            "sent": texts.question(),
            "label": {str(person["answer"]): 0.6 for person in people},
            "answer_type": "other",
            "question_type": KINDS[number % len(KINDS)],
            "is_topk_optimal": True,
            "answers": people,
        }


def _compositional(images: Iterable[int], split: int) -> Iterator[tuple[str, Entry]]:
    """Questions with GQA's programs, scene graph links and groups."""
    texts = Texts(4 + split)
    for number, image in enumerate(images):
        question_id, about = f"{split}{number:07d}", str(_image_id(image))
        steps = [
            {"operation": operation, "dependencies": [step] * bool(step), "argument": argument}
            for step, (operation, argument) in enumerate(
                zip(("select", "relate", "filter color", "query"), texts.words(4), strict=True)
            )
        ]
        answer = texts.words(1)[0]
        question = texts.sentence(6, 10, "?")
        yield (
            question_id,
            {
                "semantic": steps,
                "entailed": [f"{split}{number + step:07d}" for step in range(2)],
                "equivalent": [question_id],
                "question": question,
                "imageId": f"{split}{about}",
                "isBalanced": True,
                "groups": {"global": answer, "local": f"10-{answer}_{steps[0]['argument']}"},
                "answer": answer,
                "semanticStr": "->".join(f"{step['operation']}: {answer}" for step in steps),
                "annotations": {
                    "answer": {"0": about},
                    "question": {"2": about, "5": about},
                    "fullAnswer": {"1": about, "4": about},
                },
                "types": {"detailed": "relS", "semantic": "rel", "structural": "query"},
                "fullAnswer": texts.sentence(5, 9, "."),
            },
        )


def _filmed(clips: Iterable[int], first: int) -> Iterator[Entry]:
    texts = Texts(first)
    for number, clip in enumerate(clips):
        yield {
            "answer": (answer := texts.words(1)[0]),
            "question": texts.question(),
            "question_id": number,
            "video": f"video{first + clip}.mp4",
            "label": {answer: 1.0},
        }
