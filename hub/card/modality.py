"""What a run takes and returns, in the terms of the hub's tasks."""

from typing import Literal

from epalm.model.checkpoints.run_record import RunRecord

Modality = Literal["image", "video", "audio"]

EXAMPLE_FILES: dict[Modality, str] = {
    "image": "kitchen.jpg",
    "video": "kitchen.mp4",
    "audio": "kitchen.wav",
}

EXAMPLE_QUESTIONS: dict[Modality, str] = {
    "image": "what is on the desk?",
    "video": "what is the person doing?",
    "audio": "what makes this sound?",
}

PIPELINE_TAGS = {
    ("image", True): "visual-question-answering",
    ("image", False): "image-to-text",
    ("video", True): "video-text-to-text",
    ("video", False): "video-text-to-text",
    ("audio", True): "audio-text-to-text",
    ("audio", False): "audio-text-to-text",
}
"""Modality and whether it answers questions -> task in the hub's list (`pipeline_tag`)."""

AUDIO_FIELDS = ("fingerprint.filter_bank", "fingerprint.preprocessing.extractor")
"""Fields that only stores of audio features have."""


def modality(record: RunRecord) -> Modality:
    """The kind of samples that the run was trained on."""
    if any(name in record.store for name in AUDIO_FIELDS):
        return "audio"
    return "video" if record.store.get("fingerprint.media") == "video" else "image"


def pipeline_tag(record: RunRecord) -> str:
    """The hub's name of what the run does."""
    return PIPELINE_TAGS[modality(record), record.model.answers_questions]
