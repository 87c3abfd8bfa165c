"""Encoders from Hugging Face: TimeSformer, AST, CLIP's vision tower and similar models."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.logging import (
    disable_progress_bar,
    get_verbosity,
    set_verbosity,
    set_verbosity_error,
)

from epalm.errors import MissingFileError, ModelError, UsageError
from epalm.extract.encoders.encoder_registry import Encoder, EncoderSettings
from epalm.extract.encoders.frame_pooling import for_media, refuse_pool, refuse_video_settings
from epalm.extract.encoders.frozen_forward import PixelNorm, state_digest
from epalm.extract.encoders.hf_blocks import HiddenStatesEncoder, ModelInput
from epalm.extract.encoders.processor_config import native_audio, native_images
from epalm.extract.transforms.filter_bank import AudioPreset, FilterBankLoader, official_audio
from epalm.extract.transforms.image_transform import ImageLoader, ImagePreset, preset_for
from epalm.extract.transforms.video_loader import VideoLoader
from epalm.tasks.types import Modality
from epalm.untrusted.file_kinds import check_model_folder, describe_file
from epalm.untrusted.hub_config import loading, mismatch, refuse_kernels

PUBLISHED = {
    "clip-vit-l14": "openai/clip-vit-large-patch14",
    "timesformer-b": "facebook/timesformer-base-finetuned-k600",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
}
"""Name of an encoder -> id on the hub."""

MODEL_TYPES = {
    "clip-vit-l14": ("clip", "clip_vision_model"),
    "timesformer-b": ("timesformer",),
    "ast": ("audio-spectrogram-transformer",),
}
"""Name of an encoder -> allowed `model_type` of its weights; `hf:` allows any."""

UNUSED = ("pooler.",)
"""Prefixes of weights that no token depends on; checkpoints of classifiers lack them."""

logger = logging.getLogger(__name__)


def make_hugging_face(name: str, settings: EncoderSettings) -> Encoder:
    """Load a Hugging Face encoder; see `epalm.extract.encoders.encoder_registry.make_encoder`.

    `settings.weights` is a folder written by `save_pretrained`; `hf:` is followed by such a folder
    or an id on the hub.
    """
    source = _source(name, settings)
    config = _config(source)
    allowed = MODEL_TYPES.get(name, (config.model_type,))
    if config.model_type not in allowed:
        raise ModelError(f"{source} is a {config.model_type}, but {name} is a {allowed[0]}")
    model, digest = _load(source, config, settings.device)
    make_input = INPUT_FACTORIES.get(model.config.model_type, _image_input)
    model_input = make_input(name, model, source, settings)
    encoder = HiddenStatesEncoder(
        name, model, model_input, digest=digest, precision=settings.precision
    )
    return for_media(encoder, settings) if encoder.modality == "image" else encoder


def _image_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    preset = _image_preset(name, model.config, source, settings.preprocessing)
    arguments = _pixel_values(PixelNorm(preset, settings.device))
    return ModelInput(
        "image", ImageLoader(preset, settings.views), arguments, _example_image(preset)
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
    preset = _image_preset(name, model.config, source, settings.preprocessing)
    normalize = PixelNorm(preset, settings.device)
    if settings.media == "image":
        refuse_video_settings(settings)
        return _single_frame_input(model, preset, normalize, settings)
    frames = settings.frames or model.config.num_frames
    model.config.num_frames = frames
    load = VideoLoader(preset, frames, settings.views)
    example = torch.stack([_example_image(preset)] * frames)
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
    return ModelInput("image", load, arguments, _example_image(preset), more)


def _audio_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """AST: audio clips, or the audio tracks of videos. [CLS] is the first of two class tokens."""
    del name
    refuse_video_settings(settings)
    preset = _audio_preset(model.config, source, settings.preprocessing)
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


def _source(name: str, settings: EncoderSettings) -> str:
    """The source of the weights: a folder or an id on the hub.

    Raises:
        UsageError: `hf:` without an id, or together with --weights.
        MissingFileError: no such folder.
    """
    hub_id = name.removeprefix("hf:") if name.startswith("hf:") else ""
    if hub_id and settings.weights:
        raise UsageError(
            f"{name} already specifies the weights: leave out --weights {settings.weights}"
        )
    if settings.weights is not None and not settings.weights.is_dir():
        is_file = settings.weights.is_file()
        problem = describe_file(settings.weights) if is_file else "no such folder"
        raise MissingFileError(
            f"--weights {settings.weights}: {problem}; {name} needs a folder with config.json and "
            "model.safetensors, as written by save_pretrained"
        )
    if settings.weights is not None:
        check_model_folder(settings.weights, label=f"--weights {settings.weights}")
    elif Path(hub_id).is_dir() and hub_id:
        check_model_folder(Path(hub_id), label=name)
    source = str(settings.weights or PUBLISHED.get(name, hub_id))
    if not source:
        raise UsageError("hf: needs an id on the hub or a folder, e.g. hf:facebook/dinov2-base")
    return source


def _config(source: str) -> PreTrainedConfig:
    with loading(partial(_unreachable, source)):
        refuse_kernels(PreTrainedConfig.get_config_dict(source)[0], source)
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    return config


def _load(source: str, config: PreTrainedConfig, device: str) -> tuple[PreTrainedModel, str]:
    """Load the model in float32, and compute the digest of the weights that tokens depend on.

    Raises:
        ModelError: the weights cannot be loaded, or some are missing.
    """
    family: Any = CLIPVisionModel if config.model_type == "clip" else AutoModel
    logger.info("loading %s", source)
    disable_progress_bar()  # it would ignore --quiet
    verbosity = get_verbosity()
    set_verbosity_error()  # it would list the weights of the classifier, which are left out
    try:
        with loading(partial(_unreachable, source)):
            model, info = family.from_pretrained(
                source,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # checked below, with an error in one line
            )
    finally:
        set_verbosity(verbosity)
    missing = sorted(info["missing_keys"])
    if wrong_shapes := mismatch(info):
        raise ModelError(
            f"the weights of {source} do not match its config.json: {wrong_shapes}: download the "
            "files again, or correct config.json"
        )
    if required := [key for key in missing if not key.startswith(UNUSED)]:
        names = ", ".join(required[:8])
        raise ModelError(f"{source} lacks weights of its {config.model_type}: {names}")
    digest = state_digest(model, without=missing)
    return model.to(device), digest


def _unreachable(source: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return (
        f"{source} is neither a folder written by save_pretrained, nor in the local Hugging Face "
        "cache, nor available from the hub: give a local folder with --weights, or run once with "
        f"network access and HF_HUB_OFFLINE unset ({reason})"
    )


def _image_preset(
    name: str, config: PreTrainedConfig, source: str, preprocessing: str
) -> ImagePreset:
    """The preset for square images of the model's size.

    Raises:
        ModelError: the model does not take square images, or not of the size that its
            preprocessing gives.
    """
    size = getattr(config, "image_size", None)
    size = size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size
    if not isinstance(size, int):
        raise ModelError(
            f"{name} is a {config.model_type}, which takes no square images (image_size {size}): "
            "hf: supports vision transformers, TimeSformer and AST"
        )
    native = native_images(source) if preprocessing == "native" else {}
    preset = preset_for(preprocessing, {"input_size": (3, size, size)} | native)
    if preset.size != size:
        raise ModelError(
            f"{source}: preprocessor_config.json crops to {preset.size} pixels, but the model "
            f"takes {size}: use --preprocessing official"
        )
    return preset


def _audio_preset(config: PreTrainedConfig, source: str, preprocessing: str) -> AudioPreset:
    official = official_audio(config.num_mel_bins, config.max_length)
    if preprocessing != "native":
        return official
    mean, std = native_audio(source)
    return replace(official, name="native", mean=mean, std=std, channels="mean")


def _example_image(preset: ImagePreset) -> Tensor:
    """A random image, (3, size, size) uint8."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, preset.size, preset.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
