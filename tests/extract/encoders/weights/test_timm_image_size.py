"""timm encoders at other image sizes: as timm's own models of these sizes."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from epalm.errors import ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings, last_cls_tokens, make_encoder
from epalm.extract.encoders.weights import timm_weights
from epalm.extract.encoders.weights.timm_image_size import size_arguments
from tests.extract.helpers import REAL_WEIGHTS, TINY, random_model, save_weights

CLIP_MEAN = torch.tensor(timm.data.OPENAI_CLIP_MEAN)[:, None, None]
CLIP_STD = torch.tensor(timm.data.OPENAI_CLIP_STD)[:, None, None]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_weights(random_model("test_vit", num_classes=3), tmp_path / "w.safetensors")


def photos(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)


def tokens(name: str, weights: Path, side: int | None, images: Tensor) -> Tensor:
    encoder = make_encoder(name, EncoderSettings(weights=weights, image_size=side))
    with torch.inference_mode():
        return last_cls_tokens(encoder.blocks(images), encoder.norm)


def stock_tokens(architecture: str, weights: Path, side: int, images: Tensor) -> Tensor:
    """[CLS] of timm's intermediate layers, its positions resampled when it loads the file."""
    model: nn.Module = timm.create_model(
        architecture,
        pretrained=True,
        num_classes=0,
        img_size=side,
        pretrained_cfg_overlay={"state_dict": load_file(weights)},
    ).eval()
    pixels = (images / 255 - CLIP_MEAN) / CLIP_STD
    with torch.inference_mode():
        layers = model.get_intermediate_layers(pixels, n=6, return_prefix_tokens=True, norm=True)
    return torch.stack([prefix[:, 0] for _, prefix in layers], dim=1)


@pytest.mark.parametrize("side", [96, 160, 208])
def test_tokens_equal_those_of_timms_model_of_that_size(weights: Path, side: int) -> None:
    images = photos(side)
    expected = stock_tokens("test_vit", weights, side, images)
    torch.testing.assert_close(tokens(TINY, weights, side, images), expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not REAL_WEIGHTS.is_file(), reason=f"needs {REAL_WEIGHTS.name} in ../shared")
@pytest.mark.parametrize("side", [224, 288])
def test_a_real_vit_at_another_size_equals_timms_own(side: int) -> None:
    images = photos(side)
    expected = stock_tokens("vit_tiny_patch16_224", REAL_WEIGHTS, side, images)
    found = tokens("vit-ti16", REAL_WEIGHTS, side, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_size_is_in_the_fingerprint_and_the_own_size_changes_nothing(weights: Path) -> None:
    plain, own, other = (
        make_encoder(TINY, EncoderSettings(weights=weights, image_size=side)).fingerprint()
        for side in (None, 160, 96)
    )
    assert plain == own
    assert (plain["preprocessing.size"], other["preprocessing.size"]) == ("160", "96")


def test_native_preprocessing_crops_the_same_fraction_at_every_size(weights: Path) -> None:
    settings = EncoderSettings(weights=weights, preprocessing="native", image_size=320)
    found = make_encoder(TINY, settings).fingerprint()
    own = make_encoder(TINY, EncoderSettings(weights=weights, preprocessing="native")).fingerprint()
    assert (found["preprocessing.size"], own["preprocessing.size"]) == ("320", "160")
    assert int(found["preprocessing.resized"]) == 2 * int(own["preprocessing.resized"])


def test_a_size_of_no_whole_patches_names_the_nearest_ones(weights: Path) -> None:
    with pytest.raises(UsageError, match=r"--image-size 230: .*patch size 16: give 224 or 240"):
        make_encoder(TINY, EncoderSettings(weights=weights, image_size=230))


def test_a_model_that_cannot_take_a_size_says_which_it_takes() -> None:
    name = "maxvit_tiny_tf_224"
    with pytest.raises(UsageError, match=r"--image-size 250: a takes images of 224 or, for .*448"):
        size_arguments("a", name, 250)


def test_a_convolutional_model_takes_any_size_as_it_is() -> None:
    assert size_arguments("a", "test_convnext", 224) == {}


def test_published_weights_of_one_size_are_not_called_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def create(*_: object, **__: object) -> None:
        raise RuntimeError("Error(s) in loading: size mismatch for mix.weight")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(ModelError, match=r"of timm mixer are for its own image size alone"):
        timm_weights.published_model("mixer", img_size=64)
