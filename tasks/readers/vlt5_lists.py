"""Lists of questions as VL-T5 (Cho et al. 2021) distributes them and the released code reads them.

[{"img_id": "COCO_val2014_000000458752", "question_id": 458752000, "sent": "What is it?",
  "label": {"net": 1.0, "mesh": 0.3}}, ...]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern

from epalm.tasks.readers.data_files import JsonRecord
from epalm.tasks.readers.json_stream import stream_list


@dataclass(frozen=True, slots=True)
class Vlt5Question:
    """One question.

    Attributes:
        photo: id of the photo, without an ending.
        question_id: unique within the file.
        prompt: the question.
        label: answer -> score; empty where none of the listed answers fits.
        record: the entry itself.
    """

    photo: str
    question_id: str
    prompt: str
    label: dict[str, float]
    record: JsonRecord


def read_asked(file: Path) -> Iterator[Vlt5Question]:
    """The questions of a list, in file order.

    Raises:
        MalformedFileError: it has another layout; names the place.
    """
    for record in stream_list(file):
        label = record.scores("label", at_least=0)
        yield Vlt5Question(
            photo=record.identifier("img_id"),
            question_id=record.identifier("question_id"),
            prompt=intern(record.text("sent")),
            label={intern(answer): score for answer, score in label.items()},
            record=record,
        )
