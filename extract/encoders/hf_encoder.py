"""Encoders from Hugging Face: models of images, videos and audio clips."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from epalm.errors import ModelError
from epalm.extract.encoders.encoder_registry import Encoder, EncoderSettings
from epalm.extract.encoders.frame_pooling import for_media
from epalm.extract.encoders.hf_blocks import HiddenStatesEncoder
from epalm.extract.encoders.inputs.audio_input import (
    clap_input,
    filter_bank_input,
    log_mel_input,
    waveform_input,
)
from epalm.extract.encoders.inputs.image_input import image_input, patch_list_input
from epalm.extract.encoders.inputs.model_input import ModelInput
from epalm.extract.encoders.inputs.video_input import timesformer_input, tubelet_input
from epalm.extract.encoders.presets.image_size import fit_image_size
from epalm.extract.encoders.weights.hf_weights import find_source, load_model, read_config

MODEL_TYPES = {
    "clip-vit-l14": ("clip", "clip_vision_model"),
    "timesformer-b": ("timesformer",),
    "ast": ("audio-spectrogram-transformer",),
}
"""Name of an encoder -> allowed `model_type` of its weights; `hf:` allows any."""

INPUT_FACTORIES: dict[str, Callable[[str, PreTrainedModel, str, EncoderSettings], ModelInput]] = {
    "siglip2_vision_model": patch_list_input,
    "timesformer": timesformer_input,
    "videomae": tubelet_input,
    "vivit": tubelet_input,
    "vjepa2": tubelet_input,
    "audio-spectrogram-transformer": filter_bank_input,
    "whisper": log_mel_input,
    "wav2vec2": waveform_input,
    "hubert": waveform_input,
    "clap_audio_model": clap_input,
}
"""`model_type` -> factory of the model's input; other models are assumed to take images."""


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
    loaded = load_model(source, config, settings.device)
    model = loaded.model
    more_arguments = fit_image_size(name, model, source, settings, loaded.configured)
    make_input = INPUT_FACTORIES.get(model.config.model_type, image_input)
    model_input = make_input(name, model, source, settings)
    model_input = with_arguments(model_input, more_arguments)
    encoder = HiddenStatesEncoder(
        name, model, model_input, digest=loaded.digest, precision=settings.precision
    )
    return for_media(encoder, settings) if encoder.modality == "image" else encoder


def with_arguments(model_input: ModelInput, more: Mapping[str, Any]) -> ModelInput:
    """The same input, with which the model is called with further arguments."""
    arguments = model_input.arguments
    return replace(model_input, arguments=lambda batch: {**arguments(batch), **more})
