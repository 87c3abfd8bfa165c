"""Read the question lists of VL-T5 (Cho et al. 2021), which the official implementation uses.

[{"img_id": "COCO_val2014_000000458752", "question_id": 458752000, "sent": "What is it?",
  "label": {"net": 1.0, "mesh": 0.3}}, ...]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern

from epalm.tasks.readers.json_record import JsonRecord
from epalm.tasks.readers.json_stream import stream_list


@dataclass(frozen=True, slots=True)
class Vlt5Question:
    """One question of a list.

    Attributes:
        image_id: file name of the image without its extension.
        question_id: unique id within the file.
        prompt: the question.
        label: answer -> score; empty if no answer of VL-T5's answer list matches.
        record: the JSON object of the question.
    """

    image_id: str
    question_id: str
    prompt: str
    label: dict[str, float]
    record: JsonRecord


def read_vlt5_questions(file: Path) -> Iterator[Vlt5Question]:
    """Yield the questions of a list, in file order.

    Raises:
        MalformedFileError: the file has an unexpected structure; names the position.
    """
    for record in stream_list(file):
        label = record.scores("label", at_least=0)
        yield Vlt5Question(
            image_id=record.identifier("img_id"),
            question_id=record.identifier("question_id"),
            prompt=intern(record.text("sent")),
            label={intern(answer): score for answer, score in label.items()},
            record=record,
        )
