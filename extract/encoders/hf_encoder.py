"""Encoders from Hugging Face: TimeSformer, AST, CLIP's vision tower, and any like them."""

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
from epalm.extract.transforms.video_loader import ClipLoader
from epalm.tasks.types import Modality
from epalm.untrusted.file_kinds import check_model_folder, describe_file
from epalm.untrusted.hub_config import loading, mismatch, refuse_kernels

PUBLISHED = {
    "clip-vit-l14": "openai/clip-vit-large-patch14",
    "timesformer-b": "facebook/timesformer-base-finetuned-k600",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
}
"""Names of encoders -> ids on the hub."""

KINDS = {
    "clip-vit-l14": ("clip", "clip_vision_model"),
    "timesformer-b": ("timesformer",),
    "ast": ("audio-spectrogram-transformer",),
}
"""Names of encoders -> what `model_type` their weights may have; `hf:` may have any."""

UNUSED = ("pooler.",)
"""Prefixes of weights that no token depends on; a classifier's checkpoint lacks them."""

logger = logging.getLogger(__name__)


def make_hugging_face(name: str, settings: EncoderSettings) -> Encoder:
    """The encoder called `name`; see `epalm.extract.encoders.encoder_registry.make_encoder`.

    `settings.weights` is a folder made by `save_pretrained`; `hf:` names such a folder, or an id.
    """
    source = _source(name, settings)
    config = _config(source)
    wanted = KINDS.get(name, (config.model_type,))
    if config.model_type not in wanted:
        raise ModelError(f"{source} holds a {config.model_type}, {name} wants a {wanted[0]}")
    model, digest = _load(source, config, settings.device)
    enter = ENTRANCES.get(model.config.model_type, _enter_images)
    entrance = enter(name, model, source, settings)
    encoder = HiddenStatesEncoder(
        name, model, entrance, digest=digest, precision=settings.precision
    )
    return for_media(encoder, settings) if encoder.modality == "image" else encoder


def _enter_images(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    preset = _image_preset(name, model.config, source, settings.preprocessing)
    arguments = _pixel_values(PixelNorm(preset, settings.device))
    return ModelInput("image", ImageLoader(preset, settings.views), arguments, _picture(preset))


def _pixel_values(normalise: PixelNorm) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda batch: {"pixel_values": normalise(batch)}


def _enter_clips(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """TimeSformer: clips of T frames, or images as clips of one frame without a time embedding.

    Its blocks take T from the configuration and not from their input; with another number there
    they would run all the same, over the wrong frames.
    """
    refuse_pool(name, settings)
    preset = _image_preset(name, model.config, source, settings.preprocessing)
    normalise = PixelNorm(preset, settings.device)
    if settings.media == "image":
        refuse_video_settings(settings)
        return _enter_single_frames(model, preset, normalise, settings)
    frames = settings.frames or model.config.num_frames
    model.config.num_frames = frames
    load = ClipLoader(preset, frames, settings.views)
    example = torch.stack([_picture(preset)] * frames)
    return ModelInput("video", load, _pixel_values(normalise), example)


def _enter_single_frames(
    model: PreTrainedModel, preset: ImagePreset, normalise: PixelNorm, settings: EncoderSettings
) -> ModelInput:
    """What the published code calls `space_only_for_images`."""
    model.config.num_frames = 1
    embeddings: Any = model.embeddings
    embeddings.time_embeddings.data.zero_()

    def arguments(batch: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": normalise(batch)[:, None]}

    load = ImageLoader(preset, settings.views)
    more = {"media": "image", "frames": "1", "time_embedding": "none"}
    return ModelInput("image", load, arguments, _picture(preset), more)


def _enter_recordings(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """AST: recordings, or the sound tracks of clips. Of its two class tokens [CLS] is the first."""
    del name
    refuse_video_settings(settings)
    preset = _audio_preset(model.config, source, settings.preprocessing)
    mean, std = preset.mean, preset.std

    def arguments(batch: Tensor) -> dict[str, Tensor]:
        return {"input_values": (batch.to(model.device) - mean) / (2 * std)}

    load = FilterBankLoader(preset, settings.views)
    modality: Modality = "video" if settings.media == "video" else "audio"
    return ModelInput(modality, load, arguments, torch.zeros(preset.frames, preset.mel_bins))


ENTRANCES: dict[str, Callable[[str, PreTrainedModel, str, EncoderSettings], ModelInput]] = {
    "timesformer": _enter_clips,
    "audio-spectrogram-transformer": _enter_recordings,
}
"""`model_type` -> how media enter; any other is taken for a model of images."""


def _source(name: str, settings: EncoderSettings) -> str:
    """Where the weights are: a folder or an id on the hub.

    Raises:
        UsageError: `hf:` alone, or with weights elsewhere.
        MissingFileError: no such folder.
    """
    named = name.removeprefix("hf:") if name.startswith("hf:") else ""
    if named and settings.weights:
        raise UsageError(f"{name} names its weights: leave out --weights {settings.weights}")
    if settings.weights is not None and not settings.weights.is_dir():
        is_file = settings.weights.is_file()
        found = describe_file(settings.weights) if is_file else "no such folder"
        raise MissingFileError(
            f"--weights {settings.weights}: {found}; {name} wants a folder with config.json and "
            "model.safetensors, as save_pretrained makes it"
        )
    if settings.weights is not None:
        check_model_folder(settings.weights, label=f"--weights {settings.weights}")
    elif Path(named).is_dir() and named:
        check_model_folder(Path(named), label=name)
    source = str(settings.weights or PUBLISHED.get(name, named))
    if not source:
        raise UsageError("hf: wants an id on the hub or a folder, e.g. hf:facebook/dinov2-base")
    return source


def _config(source: str) -> PreTrainedConfig:
    with loading(partial(_unreachable, source)):
        refuse_kernels(PreTrainedConfig.get_config_dict(source)[0], source)
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    return config


def _load(source: str, config: PreTrainedConfig, device: str) -> tuple[PreTrainedModel, str]:
    """The model in float32, and the digest of those of its weights that tokens depend on.

    Raises:
        ModelError: the weights cannot be had, or not all of them are there.
    """
    family: Any = CLIPVisionModel if config.model_type == "clip" else AutoModel
    logger.info("loading %s", source)
    disable_progress_bar()  # it would ignore --quiet
    before = get_verbosity()
    set_verbosity_error()  # it would list the classifier's weights, which are left out
    try:
        with loading(partial(_unreachable, source)):
            model, found = family.from_pretrained(
                source,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are refused below, in one line
            )
    finally:
        set_verbosity(before)
    missing = sorted(found["missing_keys"])
    if wrong_shapes := mismatch(found):
        raise ModelError(
            f"the weights of {source} are not those of its config.json: {wrong_shapes}: get the "
            "files again, or correct config.json"
        )
    if lacking := [key for key in missing if not key.startswith(UNUSED)]:
        wrong = ", ".join(lacking[:8])
        raise ModelError(f"{source} lacks weights of its {config.model_type}: {wrong}")
    digest = state_digest(model, without=missing)
    return model.to(device), digest


def _unreachable(source: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return (
        f"{source} is neither a folder made by save_pretrained, nor in the local Hugging Face "
        "cache, nor to be had from the hub: name a local folder with --weights, or run once with "
        f"network access and HF_HUB_OFFLINE unset ({reason})"
    )


def _image_preset(
    name: str, config: PreTrainedConfig, source: str, preprocessing: str
) -> ImagePreset:
    """The preset for square inputs of the model's own size.

    Raises:
        ModelError: the model takes no squares, or none of the size its preprocessing makes.
    """
    size = getattr(config, "image_size", None)
    size = size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size
    if not isinstance(size, int):
        raise ModelError(
            f"{name} is a {config.model_type}, which takes no square pictures (image_size {size}): "
            "hf: reads vision transformers, TimeSformer and AST"
        )
    native = native_images(source) if preprocessing == "native" else {}
    preset = preset_for(preprocessing, {"input_size": (3, size, size)} | native)
    if preset.size != size:
        raise ModelError(
            f"{source}: preprocessor_config.json cuts {preset.size} pixels, the model takes "
            f"{size}: use --preprocessing official"
        )
    return preset


def _audio_preset(config: PreTrainedConfig, source: str, preprocessing: str) -> AudioPreset:
    official = official_audio(config.num_mel_bins, config.max_length)
    if preprocessing != "native":
        return official
    mean, std = native_audio(source)
    return replace(official, name="native", mean=mean, std=std, channels="mean")


def _picture(preset: ImagePreset) -> Tensor:
    """(3, size, size) uint8, any picture."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, preset.size, preset.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
