"""Question and annotation files in the layout of VQA (visualqa.org), which OK-VQA shares.

Questions:    {"questions": [{"image_id": 9, "question": "What is it?", "question_id": 9000}, ...]}
Annotations:  {"annotations": [{"question_id": 9000, "question_type": "what is", "answer_type":
              "other", "answers": [{"answer": "net", ...}, ... ten people]}, ...]}
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern

from epalm.errors import MalformedFileError
from epalm.tasks.readers.data_files import JsonRecord, find_file, with_unique_ids
from epalm.tasks.readers.json_stream import stream_member
from epalm.tasks.types import Example

FULL_SCORE_PEOPLE = 3
"""An answer that so many of the ten people gave scores 1 (Antol et al. 2015)."""


@dataclass(frozen=True, slots=True)
class VqaFiles:
    """Where one set's files lie.

    Attributes:
        questions: name of the question file, with "{part}" in it.
        annotations: likewise.
        folders: of the data root, that are looked into.
        published: what the files are and where they can be had, for messages.
        answer: of each person's answer, the member that is taught and scored.
    """

    questions: str
    annotations: str
    folders: tuple[str, ...]
    published: str
    answer: str = "answer"

    def find(self, pattern: str, part: str, root: Path, *, instead: Sequence[str] = ()) -> Path:
        """Where the file of a part, e.g. "train2014", lies, or one of those that serve as well.

        Raises:
            MissingFileError: none of them is there.
        """
        name = pattern.format(part=part)
        return find_file(
            name, root=root, folders=self.folders, published=self.published, instead=instead
        )


@dataclass(frozen=True, slots=True)
class HumanAnswers:
    """What an annotation holds.

    Attributes:
        people: everybody's answer.
        question_type: e.g. "what is".
        answer_type: e.g. "other".
    """

    people: tuple[str, ...]
    question_type: str
    answer_type: str


def soft_scores(answers: Collection[str]) -> dict[str, float]:
    """Each distinct answer's score min(1, people / 3), in order of first appearance."""
    return {
        answer: min(1.0, people / FULL_SCORE_PEOPLE) for answer, people in Counter(answers).items()
    }


def photo_name(part: str, number: int) -> str:
    """The file name of a COCO photo of 2014 or 2015."""
    return f"COCO_{part}_{number:012d}.jpg"


def read_questions(
    file: Path, photos_part: str, *, photos: Collection[str] | None = None
) -> list[Example]:
    """The questions of a file, without answers, in file order.

    Args:
        file: an official question file.
        photos_part: of COCO, e.g. "train2014".
        photos: only questions about these; None for all.

    Raises:
        MalformedFileError: it has another layout, or an id stands there twice.
    """
    found = []
    for record in stream_member(file, "questions"):
        key = intern(photo_name(photos_part, record.number("image_id")))
        if photos is None or key in photos:
            question_id, prompt = record.identifier("question_id"), record.text("question")
            found.append(Example(key, question_id, intern(prompt), (), ()))
    return with_unique_ids(found, file=file)


def read_said(
    files: VqaFiles, part: str, root: Path, *, wanted: Collection[str]
) -> dict[str, HumanAnswers]:
    """question_id -> what people said, of the questions `wanted`.

    Raises:
        MissingFileError: the annotation file of this part is not there.
        MalformedFileError: it has another layout, annotates a question twice, or lacks one.
    """
    file = files.find(files.annotations, part, root)
    found: dict[str, HumanAnswers] = {}
    for record in stream_member(file, "annotations"):
        question_id = record.identifier("question_id")
        if question_id not in wanted:
            continue
        if question_id in found:
            raise record.wrong("question_id", question_id, "one that no other annotation has")
        found[question_id] = _said(record, files.answer)
    for question_id in wanted:
        if question_id not in found:
            raise MalformedFileError(f"{file} has no annotation of question {question_id}")
    return found


def answered(question: Example, said: HumanAnswers) -> Example:
    """The question with its answers: the distinct ones, each weighted by its soft score."""
    scores = soft_scores(said.people)
    return Example(
        key=question.key,
        question_id=question.question_id,
        prompt=question.prompt,
        answers=tuple(scores),
        references=said.people,
        weights=tuple(scores.values()),
        question_type=said.question_type,
        answer_type=said.answer_type,
    )


def read_answered(
    files: VqaFiles, part: str, root: Path, *, photos: Collection[str] | None = None
) -> list[Example]:
    """The questions of one part with their answers, in file order.

    Args:
        files: which set.
        part: "train2014" or "val2014".
        root: the data root.
        photos: only questions about these; None for all.

    Raises:
        MissingFileError: a file is not there.
        MalformedFileError: a file has another layout, or a question lacks its annotation.
    """
    questions = read_questions(files.find(files.questions, part, root), part, photos=photos)
    wanted = {question.question_id for question in questions}
    said = read_said(files, part, root, wanted=wanted)
    for place, question in enumerate(questions):  # in place: at most one of each is held twice
        questions[place] = answered(question, said.pop(question.question_id))
    return questions


def _said(record: JsonRecord, member: str) -> HumanAnswers:
    people = tuple(map(intern, record.column("answers", member)))
    if not people:
        raise record.wrong("answers", [], "at least one answer")
    return HumanAnswers(
        people, intern(record.text("question_type")), intern(record.text("answer_type"))
    )
