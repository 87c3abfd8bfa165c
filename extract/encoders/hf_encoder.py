"""Encoders from Hugging Face: models of images, videos and audio clips."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

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
from epalm.extract.encoders.weights.hf_towers import TOWERS
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


OTHER_INPUTS = {"input_ids": "text", "input_values": "audio", "input_features": "audio"}
"""Main argument of a model that does not take images -> what it takes."""


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
    refuse_other_inputs(name, config)
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


def refuse_other_inputs(name: str, config: PreTrainedConfig) -> None:
    """Refuse models of text, and of audio in an unknown form, before weights are loaded.

    Raises:
        ModelError: states what the model takes, and which models are supported.
    """
    kind = config.model_type
    if kind in INPUT_FACTORIES or kind in TOWERS or type(config) not in MODEL_MAPPING:
        return
    model_class: Any = MODEL_MAPPING[type(config)]
    taken = OTHER_INPUTS.get(getattr(model_class, "main_input_name", ""))
    if taken:
        raise ModelError(
            f"{name} is a {kind}, a model of {taken}: hf: takes models of images, and those of "
            f"videos and audio with a model_type of {', '.join(INPUT_FACTORIES)}; choose one of "
            "docs/reference/encoders.md"
        )


def with_arguments(model_input: ModelInput, more: Mapping[str, Any]) -> ModelInput:
    """The same input, with which the model is called with further arguments."""
    arguments = model_input.arguments
    return replace(model_input, arguments=lambda batch: {**arguments(batch), **more})
