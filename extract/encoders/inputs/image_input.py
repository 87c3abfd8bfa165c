"""Images as inputs of Hugging Face models."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.extract.encoders.frozen_forward import PixelNorm
from epalm.extract.encoders.inputs.model_input import ModelInput
from epalm.extract.encoders.presets.hf_presets import example_image, image_preset
from epalm.extract.transforms.image_transform import ImageLoader


def image_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """The input of a model of square images."""
    preset = image_preset(name, model.config, source, settings.preprocessing)
    arguments = pixel_values(PixelNorm(preset, settings.device))
    load = ImageLoader(preset, settings.views)
    return ModelInput("image", load, arguments, example_image(preset))


def patch_list_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """The input of SigLIP2's NaFlex towers: patches by row.

    Images are square, as for every encoder, with as many patches as the model has positions.
    """
    patch = model.config.patch_size
    side = round(model.config.num_patches**0.5)
    model.config.image_size = side * patch
    preset = image_preset(name, model.config, source, settings.preprocessing)
    normalize = PixelNorm(preset, settings.device)

    def arguments(batch: Tensor) -> dict[str, Tensor]:
        patches = split_patches(normalize(batch), patch)
        count = len(batch)
        mask = torch.ones(count, side * side, dtype=torch.long, device=patches.device)
        shapes = torch.tensor([[side, side]] * count, device=patches.device)
        return {
            "pixel_values": patches,
            "pixel_attention_mask": mask,
            "spatial_shapes": shapes,
        }

    load = ImageLoader(preset, settings.views)
    return ModelInput("image", load, arguments, example_image(preset))


def split_patches(images: Tensor, patch: int) -> Tensor:
    """Cut (B, 3, height, width) into patches by row: (B, patches, patch x patch x 3)."""
    batch, channels = images.shape[:2]
    cut = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    patches: Tensor = cut.permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2)
    assert patches.shape[::2] == (batch, patch * patch * channels)
    return patches


def pixel_values(normalize: PixelNorm) -> Callable[[Tensor], dict[str, Any]]:
    """The argument `pixel_values` of a batch of images or videos."""
    return lambda batch: {"pixel_values": normalize(batch)}
