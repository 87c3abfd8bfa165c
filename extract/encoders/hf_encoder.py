"""Encoders from Hugging Face: TimeSformer, AST, CLIP's vision tower and similar models."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from epalm.errors import ModelError
from epalm.extract.encoders.encoder_registry import Encoder, EncoderSettings
from epalm.extract.encoders.frame_pooling import for_media, refuse_pool, refuse_video_settings
from epalm.extract.encoders.frozen_forward import PixelNorm
from epalm.extract.encoders.hf_blocks import HiddenStatesEncoder, ModelInput
from epalm.extract.encoders.presets.hf_presets import audio_preset, example_image, image_preset
from epalm.extract.encoders.weights.hf_weights import find_source, load_model, read_config
from epalm.extract.transforms.filter_bank import FilterBankLoader
from epalm.extract.transforms.image_preset import ImagePreset
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.extract.transforms.video_loader import VideoLoader
from epalm.tasks.types import Modality

MODEL_TYPES = {
    "clip-vit-l14": ("clip", "clip_vision_model"),
    "timesformer-b": ("timesformer",),
    "ast": ("audio-spectrogram-transformer",),
}
"""Name of an encoder -> allowed `model_type` of its weights; `hf:` allows any."""


def make_hugging_face(name: str, settings: EncoderSettings) -> Encoder:
    """Load a Hugging Face encoder; see `epalm.extract.encoders.encoder_registry.make_encoder`.

    `settings.weights` is a folder written by `save_pretrained`; `hf:` is followed by such a folder
    or an id on the hub.
    """
    source = find_source(name, settings)
    config = read_config(source)
    allowed = MODEL_TYPES.get(name, (config.model_type,))
    if config.model_type not in allowed:
        raise ModelError(f"{source} is a {config.model_type}, but {name} is a {allowed[0]}")
    model, digest = load_model(source, config, settings.device)
    make_input = INPUT_FACTORIES.get(model.config.model_type, _image_input)
    model_input = make_input(name, model, source, settings)
    encoder = HiddenStatesEncoder(
        name, model, model_input, digest=digest, precision=settings.precision
    )
    return for_media(encoder, settings) if encoder.modality == "image" else encoder


def _image_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    preset = image_preset(name, model.config, source, settings.preprocessing)
    arguments = _pixel_values(PixelNorm(preset, settings.device))
    return ModelInput(
        "image", ImageLoader(preset, settings.views), arguments, example_image(preset)
    )


def _pixel_values(normalize: PixelNorm) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda batch: {"pixel_values": normalize(batch)}


def _video_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """TimeSformer: videos of T frames, or images as videos of one frame without time embedding.

    The blocks read T from the configuration and not from their input. With another number there
    they would run without an error, over the wrong frames.
    """
    refuse_pool(name, settings)
    preset = image_preset(name, model.config, source, settings.preprocessing)
    normalize = PixelNorm(preset, settings.device)
    if settings.media == "image":
        refuse_video_settings(settings)
        return _single_frame_input(model, preset, normalize, settings)
    frames = settings.frames or model.config.num_frames
    model.config.num_frames = frames
    load = VideoLoader(preset, frames, settings.views)
    example = torch.stack([example_image(preset)] * frames)
    return ModelInput("video", load, _pixel_values(normalize), example)


def _single_frame_input(
    model: PreTrainedModel, preset: ImagePreset, normalize: PixelNorm, settings: EncoderSettings
) -> ModelInput:
    """The option `space_only_for_images` of the official implementation."""
    model.config.num_frames = 1
    embeddings: Any = model.embeddings
    embeddings.time_embeddings.data.zero_()

    def arguments(batch: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": normalize(batch)[:, None]}

    load = ImageLoader(preset, settings.views)
    more = {"media": "image", "frames": "1", "time_embedding": "none"}
    return ModelInput("image", load, arguments, example_image(preset), more)


def _audio_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """AST: audio clips, or the audio tracks of videos. [CLS] is the first of two class tokens."""
    del name
    refuse_video_settings(settings)
    preset = audio_preset(model.config, source, settings.preprocessing)
    mean, std = preset.mean, preset.std

    def arguments(batch: Tensor) -> dict[str, Tensor]:
        return {"input_values": (batch.to(model.device) - mean) / (2 * std)}

    load = FilterBankLoader(preset, settings.views)
    modality: Modality = "video" if settings.media == "video" else "audio"
    return ModelInput(modality, load, arguments, torch.zeros(preset.frames, preset.mel_bins))


INPUT_FACTORIES: dict[str, Callable[[str, PreTrainedModel, str, EncoderSettings], ModelInput]] = {
    "timesformer": _video_input,
    "audio-spectrogram-transformer": _audio_input,
}
"""`model_type` -> factory of the model's input; other models are assumed to take images."""
