"""The two presets give the same pixels as independent transforms."""

from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from epalm.errors import MediaError, ModelError, UsageError
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.extract.transforms.image_preset import native_preset, official_preset, preset_for
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.tasks.types import MediaItem
from tests.extract.helpers import noise

CONFIG = {
    "input_size": (3, 64, 64),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}
SHAPES = [(100, 80), (80, 101), (64, 64), (31, 200), (500, 333), (9, 7)]


def saved(tmp_path: Path, shape: tuple[int, int]) -> MediaItem:
    Image.fromarray(noise(*shape)).save(tmp_path / "a.png")
    return MediaItem("a", tmp_path, "a.png")


@pytest.mark.parametrize("shape", SHAPES)
def test_official_squashes_with_torchvisions_bicubic(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    item = saved(tmp_path, shape)
    resize = transforms.Resize((64, 64), interpolation=InterpolationMode.BICUBIC)
    expected = transforms.PILToTensor()(resize(Image.fromarray(noise(*shape))))
    assert np.array_equal(ImageLoader(official_preset(64))(item, 0), expected.numpy())


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("shape", SHAPES)
def test_native_equals_timms_evaluation_transform(
    shape: tuple[int, int], crop_mode: str, tmp_path: Path
) -> None:
    item = saved(tmp_path, shape)
    config = CONFIG | {"crop_mode": crop_mode}
    transform = timm.data.create_transform(**config, is_training=False)
    preset = native_preset(config)
    mean, std = (np.array(values)[:, None, None] for values in (preset.mean, preset.std))
    found = (ImageLoader(preset)(item, 0) / 255 - mean) / std
    assert np.abs(found - transform(Image.fromarray(noise(*shape))).numpy()).max() < 1e-6


def test_official_uses_clips_constants_for_every_encoder() -> None:
    preset = preset_for("official", CONFIG)
    assert preset.mean == timm.data.OPENAI_CLIP_MEAN
    assert preset.std == timm.data.OPENAI_CLIP_STD
    assert (preset.size, preset.interpolation) == (64, "bicubic")


def test_native_of_the_published_vit_is_crop_224_of_248_and_one_half() -> None:
    config = timm.get_pretrained_cfg("vit_tiny_patch16_224.augreg_in21k_ft_in1k").to_dict()
    preset = preset_for("native", config | {"crop_mode": "center"})
    assert (preset.size, preset.resized, preset.keep_shape) == (224, 248, True)
    assert preset.mean == preset.std == (0.5, 0.5, 0.5)


def test_an_unknown_preset_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'clip' is not one of paper, official, native"):
        preset_for("clip", CONFIG)


@pytest.mark.parametrize(
    "change",
    [{"crop_mode": "border"}, {"input_size": (3, 64, 32)}, {"interpolation": "random"}],
)
def test_a_native_transform_we_do_not_have_points_to_the_official_one(
    change: dict[str, object],
) -> None:
    with pytest.raises(ModelError, match="use --preprocessing paper"):
        native_preset(CONFIG | change)


def test_an_image_too_thin_to_resize_is_refused_before_memory_is_allocated(tmp_path: Path) -> None:
    item = saved(tmp_path, (2, 60_000))
    with pytest.raises(MediaError, match=r"a\.png: 2 x 60000 is too thin"):
        ImageLoader(native_preset(CONFIG | {"input_size": (3, 224, 224)}))(item, 0)


def test_a_view_that_was_not_planned_is_refused(tmp_path: Path) -> None:
    item = saved(tmp_path, (9, 7))
    for view in (-1, 2):
        with pytest.raises(ValueError, match=rf"there is no view {view}, only views 0\.\.1"):
            ImageLoader(official_preset(64), AugmentedViews(2))(item, view)


def test_an_augmented_view_of_an_image_too_thin_for_the_test_view_has_the_usual_size(
    tmp_path: Path,
) -> None:
    loader = ImageLoader(native_preset(CONFIG | {"input_size": (3, 224, 224)}), AugmentedViews(2))
    assert loader(saved(tmp_path, (2, 60_000)), 1).shape == (3, 224, 224)
