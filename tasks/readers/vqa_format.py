"""Read question and annotation files in the VQA format (visualqa.org), also used by OK-VQA.

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
from epalm.tasks.readers.data_files import check_unique_ids, find_file
from epalm.tasks.readers.json_record import JsonRecord
from epalm.tasks.readers.json_stream import stream_member
from epalm.tasks.types import Example

FULL_SCORE_ANNOTATORS = 3
"""An answer given by at least this many of the ten annotators scores 1 (Antol et al. 2015)."""


@dataclass(frozen=True, slots=True)
class VqaFiles:
    """Names and folders of the files of one dataset.

    Attributes:
        questions: name of the question file, with a placeholder "{part}".
        annotations: name of the annotation file, with a placeholder "{part}".
        folders: sub-folders of the data root to search.
        published: description of the files and their source, for error messages.
        answer: member of each annotator's entry that contains the answer.
    """

    questions: str
    annotations: str
    folders: tuple[str, ...]
    published: str
    answer: str = "answer"

    def find(self, pattern: str, part: str, root: Path, *, instead: Sequence[str] = ()) -> Path:
        """Find the file of a part, e.g. "train2014", or one of the alternatives `instead`.

        Raises:
            MissingFileError: none of them exists.
        """
        name = pattern.format(part=part)
        return find_file(
            name, root=root, folders=self.folders, published=self.published, instead=instead
        )


@dataclass(frozen=True, slots=True)
class HumanAnswers:
    """The annotation of one question.

    Attributes:
        answers: the answer of each annotator.
        question_type: type of the question, e.g. "what is".
        answer_type: type of the answer, e.g. "other".
    """

    answers: tuple[str, ...]
    question_type: str
    answer_type: str


def soft_scores(answers: Collection[str]) -> dict[str, float]:
    """Score each distinct answer by min(1, annotators / 3), in order of first appearance."""
    return {
        answer: min(1.0, count / FULL_SCORE_ANNOTATORS)
        for answer, count in Counter(answers).items()
    }


def coco_image_name(part: str, number: int) -> str:
    """Return the file name of a COCO image of 2014 or 2015."""
    return f"COCO_{part}_{number:012d}.jpg"


def read_questions(
    file: Path, image_part: str, *, images: Collection[str] | None = None
) -> list[Example]:
    """Read the questions of a file, without answers, in file order.

    Args:
        file: an official question file.
        image_part: part of COCO with the images, e.g. "train2014".
        images: keys of images, to read only questions about these; None for all.

    Raises:
        MalformedFileError: the file has an unexpected structure, or an id is used twice.
    """
    questions = []
    for record in stream_member(file, "questions"):
        key = intern(coco_image_name(image_part, record.integer("image_id")))
        if images is None or key in images:
            question_id, prompt = record.identifier("question_id"), record.text("question")
            questions.append(Example(key, question_id, intern(prompt), (), ()))
    return check_unique_ids(questions, file=file)


def read_human_answers(
    files: VqaFiles, part: str, root: Path, *, question_ids: Collection[str]
) -> dict[str, HumanAnswers]:
    """Read the annotations of the given questions: question_id -> answers.

    Raises:
        MissingFileError: the annotation file of this part does not exist.
        MalformedFileError: the file has an unexpected structure, annotates a question twice, or
            lacks one.
    """
    file = files.find(files.annotations, part, root)
    annotations: dict[str, HumanAnswers] = {}
    for record in stream_member(file, "annotations"):
        question_id = record.identifier("question_id")
        if question_id not in question_ids:
            continue
        if question_id in annotations:
            raise record.error("question_id", question_id, "an id without another annotation")
        annotations[question_id] = _human_answers(record, files.answer)
    for question_id in question_ids:
        if question_id not in annotations:
            raise MalformedFileError(f"{file} has no annotation of question {question_id}")
    return annotations


def with_answers(question: Example, human: HumanAnswers) -> Example:
    """Add the distinct answers to a question, each weighted by its soft score."""
    scores = soft_scores(human.answers)
    return Example(
        key=question.key,
        question_id=question.question_id,
        prompt=question.prompt,
        answers=tuple(scores),
        references=human.answers,
        weights=tuple(scores.values()),
        question_type=human.question_type,
        answer_type=human.answer_type,
    )


def read_answered_questions(
    files: VqaFiles, part: str, root: Path, *, images: Collection[str] | None = None
) -> list[Example]:
    """Read the questions of one part with their answers, in file order.

    Args:
        files: names of the dataset's files.
        part: "train2014" or "val2014".
        root: data root.
        images: keys of images, to read only questions about these; None for all.

    Raises:
        MissingFileError: a file does not exist.
        MalformedFileError: a file has an unexpected structure, or a question has no annotation.
    """
    questions = read_questions(files.find(files.questions, part, root), part, images=images)
    question_ids = {question.question_id for question in questions}
    annotations = read_human_answers(files, part, root, question_ids=question_ids)
    for index, question in enumerate(questions):  # in place, to keep no second list in memory
        questions[index] = with_answers(question, annotations.pop(question.question_id))
    return questions


def _human_answers(record: JsonRecord, member: str) -> HumanAnswers:
    answers = tuple(map(intern, record.member_texts("answers", member)))
    if not answers:
        raise record.error("answers", [], "at least one answer")
    return HumanAnswers(
        answers, intern(record.text("question_type")), intern(record.text("answer_type"))
    )
