"""Videos as inputs of Hugging Face models: TimeSformer, VideoMAE, ViViT, V-JEPA 2."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from epalm.errors import UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.extract.encoders.frame_pooling import refuse_pool, refuse_video_settings
from epalm.extract.encoders.frozen_forward import PixelNorm
from epalm.extract.encoders.inputs.image_input import pixel_values
from epalm.extract.encoders.inputs.model_input import ModelInput
from epalm.extract.encoders.presets.hf_presets import example_image, image_preset
from epalm.extract.encoders.tokens.block_tokens import TIME, Axis
from epalm.extract.encoders.tokens.probe import square_axes
from epalm.extract.transforms.image_preset import ImagePreset
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.extract.transforms.video_loader import VideoLoader


def timesformer_input(
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
    axes = partial(_time_last, frames)
    return ModelInput("video", load, pixel_values(normalize), example, axes=axes)


def _time_last(frames: int, patches: int) -> tuple[Axis, ...]:
    """TimeSformer has the frames of a patch one after the other."""
    axes = square_axes(patches // frames)
    return (*axes, Axis(TIME, frames))


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


def tubelet_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """VideoMAE, ViViT and V-JEPA 2: tubes of a patch in several frames, by time, then by row.

    Raises:
        UsageError: images, or a number of frames that the model does not take.
    """
    refuse_pool(name, settings)
    config = model.config
    if settings.media == "image":
        raise UsageError(f"{name} encodes videos: choose an image encoder for images")
    if not hasattr(config, "image_size"):
        config.image_size = config.crop_size
    preset = image_preset(name, config, source, settings.preprocessing)
    frames, tube = _frames(name, config, settings.frames)
    load = VideoLoader(preset, frames, settings.views)
    example = torch.stack([example_image(preset)] * frames)
    axes = partial(square_axes, leading=(Axis(TIME, frames // tube),))
    normalize = PixelNorm(preset, settings.device)

    def arguments(batch: Tensor) -> dict[str, Any]:
        if config.model_type == "vjepa2":
            return {"pixel_values_videos": normalize(batch), "skip_predictor": True}
        return {"pixel_values": normalize(batch)}

    return ModelInput("video", load, arguments, example, axes=axes)


def _frames(name: str, config: Any, asked: int | None) -> tuple[int, int]:  # noqa: ANN401
    """The number of frames, and that of one tube.

    Raises:
        UsageError: the model has no positions for another number of frames.
    """
    tube = config.tubelet_size
    tube = tube[0] if isinstance(tube, list | tuple) else tube
    own = getattr(config, "num_frames", None) or config.frames_per_clip
    free = config.model_type == "vjepa2"  # its positions are rotations
    if asked is not None and (asked % tube or (asked != own and not free)):
        wanted = f"a multiple of {tube}" if free else f"{own} alone"
        raise UsageError(f"--frames {asked}: {name} takes {wanted}: leave out --frames")
    return asked or own, tube
