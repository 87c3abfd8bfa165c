"""The preprocessing of a Hugging Face encoder: that of eP-ALM's code, or the model's own."""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from epalm.errors import ModelError
from epalm.extract.encoders.presets.processor_config import native_audio, native_images
from epalm.extract.transforms.filter_bank import AudioPreset, official_audio
from epalm.extract.transforms.image_preset import ImagePreset, preset_for
from epalm.untrusted.quoted_values import shown


def image_preset(
    name: str, config: PreTrainedConfig, source: str, preprocessing: str
) -> ImagePreset:
    """The preset for square images of the size in the model's configuration.

    An image is cropped by the same fraction whatever the size is.

    Raises:
        ModelError: config.json has no size of square images.
    """
    size = getattr(config, "image_size", None)
    size = size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size
    if not isinstance(size, int):
        raise ModelError(
            f"{name} is a {config.model_type}, whose config.json has image_size {shown(size)}, "
            "expected the side of square images in pixels: choose another --encoder "
            "(docs/reference/encoders.md)"
        )
    native = native_images(source) if preprocessing == "native" else {}
    return preset_for(preprocessing, native | {"input_size": (3, size, size)})


def audio_preset(config: PreTrainedConfig, source: str, preprocessing: str) -> AudioPreset:
    """The preset for filter banks of the model's size."""
    official = official_audio(config.num_mel_bins, config.max_length)
    if preprocessing != "native":
        return official
    mean, std = native_audio(source)
    return replace(official, name="native", mean=mean, std=std, channels="mean")


def example_image(preset: ImagePreset) -> Tensor:
    """A random image, (3, size, size) uint8."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, preset.size, preset.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
