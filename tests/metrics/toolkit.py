"""The published captions and scores of the COCO toolkit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from epalm.tasks.types import Example, Prediction

CHECK = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "coco_caption_check"

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
needs_check = pytest.mark.skipif(
    not CHECK.is_dir(), reason="the published COCO hypotheses are not beside this repository"
)


def photos() -> list[dict[str, Any]]:
    """Every hypothesis and its references, tokenized, by the id of the photo."""
    actual: list[dict[str, Any]] = json.loads(
        (CHECK / "tokenised_hypotheses_and_references.json").read_text()
    )
    return actual


def raw_captions() -> dict[int, str]:
    raw = json.loads((CHECK / "raw_hypotheses.json").read_text(encoding="utf-8"))
    return {photo["image_id"]: photo["caption"] for photo in raw}


def published_scores() -> dict[str, float]:
    """By the names of `epalm.metrics`."""
    names = {"ROUGE_L": "ROUGE-L", "CIDEr": "CIDEr", "METEOR": "METEOR", "SPICE": "SPICE"}
    names |= {f"Bleu_{order}": f"BLEU-{order}" for order in range(1, 5)}
    actual = json.loads((CHECK / "official_scores.json").read_text())
    return {names[name]: score for name, score in actual.items() if name in names}


def published_task() -> tuple[list[Prediction], list[Example]]:
    """The raw hypotheses and the references."""
    raw = raw_captions()
    examples = [captioned(str(photo["image_id"]), *photo["refs"]) for photo in photos()]
    return [Prediction(one.question_id, one.key, raw[int(one.key)]) for one in examples], examples


def captioned(question_id: str, *references: str) -> Example:
    return Example(question_id, question_id, "", references, references)


def predicted(*texts: str) -> list[Prediction]:
    return [Prediction(str(row), str(row), text) for row, text in enumerate(texts)]
