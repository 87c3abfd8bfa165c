"""The part of a Hugging Face model that encodes images, videos or audio clips."""

from dataclasses import dataclass
from typing import Any

from transformers import (
    Aimv2VisionModel,
    AutoModel,
    ClapAudioModel,
    ClapModel,
    CLIPVisionModel,
    PreTrainedConfig,
    Siglip2VisionModel,
    SiglipVisionModel,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder


@dataclass(frozen=True)
class Tower:
    """What to load of a checkpoint.

    Attributes:
        family: the class whose weights are read.
        part: attribute of the loaded model that is the encoder; "" for the whole model.
    """

    family: Any
    part: str = ""


TOWERS = {
    "clip": Tower(CLIPVisionModel),
    "siglip": Tower(SiglipVisionModel),
    "siglip2": Tower(Siglip2VisionModel),
    "aimv2": Tower(Aimv2VisionModel),
    "clap": Tower(ClapModel, "audio_model"),
    "clap_audio_model": Tower(ClapAudioModel),
    "whisper": Tower(WhisperModel, "encoder"),
}
"""`model_type` of a model with more than an encoder -> its encoder."""


def tower_of(config: PreTrainedConfig) -> Tower:
    """The encoder of a model with this configuration."""
    if config.model_type == "whisper" and config.architectures == ["WhisperEncoder"]:
        return Tower(WhisperEncoder)
    return TOWERS.get(config.model_type, Tower(AutoModel))
