"""Hugging Face encoders at other image sizes: as their own interpolation computes them."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    Dinov2Config,
    Dinov2Model,
    HieraConfig,
    HieraModel,
    PreTrainedModel,
    TimesformerConfig,
    TimesformerModel,
    ViTConfig,
    ViTModel,
)

from epalm.errors import ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings, last_cls_tokens, make_encoder
from tests.extract.encoders.tiny_encoders import PICTURES, make_tiny, normalized, save

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

MODELS = Path(os.environ.get("EPALM_MODELS") or Path.home() / ".cache/epalm-models")

DINOV2 = MODELS / "dinov2-small"


def photos(side: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, *shape, 3, side, side), dtype=torch.uint8, generator=generator)


def tokens(name: str, images: Tensor, **settings: Any) -> Tensor:  # noqa: ANN401
    """[CLS] of the last block, (B, D)."""
    encoder = make_encoder(name, EncoderSettings(**settings))
    with torch.inference_mode():
        return last_cls_tokens(encoder.blocks(images), encoder.norm)[:, -1]


def of_stock(model: PreTrainedModel, pixels: Tensor, **arguments: object) -> Tensor:
    with torch.inference_mode():
        states: Tensor = model.eval()(pixels, **arguments).last_hidden_state
    return states[:, 0]


@pytest.mark.parametrize("side", [32, 64, 96])
def test_a_vit_equals_its_own_interpolation(tmp_path: Path, side: int) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    stock = ViTModel.from_pretrained(tmp_path, dtype=torch.float32)
    images = photos(side)
    expected = of_stock(stock, normalized(images), interpolate_pos_encoding=True)
    found = tokens(f"hf:{tmp_path}", images, image_size=side)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_clip_equals_its_own_interpolation(tmp_path: Path) -> None:
    tiny = make_tiny("clip-vit-l14", tmp_path)
    images = photos(64)
    with torch.inference_mode():
        output: Any = tiny.stock(normalized(images), interpolate_pos_encoding=True)
    found = tokens("clip-vit-l14", images, weights=tmp_path, image_size=64)
    torch.testing.assert_close(found, output.pooler_output, rtol=0, atol=1e-5)


def hub_dinov2(folder: Path) -> Path:
    """As on the hub: made for 518 pixels, here 64, and a processor that crops to 224, here 32."""
    save(Dinov2Model(Dinov2Config(**PICTURES | {"image_size": 64})), folder)
    own = BitImageProcessor(
        size={"shortest_edge": 40},
        crop_size={"height": 32, "width": 32},
        image_mean=[0.4] * 3,
        image_std=[0.3] * 3,
    )
    own.save_pretrained(folder)
    return folder


def test_dinov2_takes_the_crop_of_its_own_preprocessing(tmp_path: Path) -> None:
    stock = Dinov2Model.from_pretrained(hub_dinov2(tmp_path), dtype=torch.float32)
    images = photos(32)
    found = tokens(f"hf:{tmp_path}", images, preprocessing="native")
    expected = of_stock(stock, (images / 255 - 0.4) / 0.3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    encoder = make_encoder(f"hf:{tmp_path}", EncoderSettings(preprocessing="native"))
    assert encoder.positions == 1 + (32 // 16) ** 2


@pytest.mark.parametrize("side", [48, 64, 128])
def test_dinov2_takes_any_multiple_of_its_patches(tmp_path: Path, side: int) -> None:
    stock = Dinov2Model.from_pretrained(hub_dinov2(tmp_path), dtype=torch.float32)
    images = photos(side)
    settings = EncoderSettings(preprocessing="native", image_size=side)
    encoder = make_encoder(f"hf:{tmp_path}", settings)
    with torch.inference_mode():
        found = last_cls_tokens(encoder.blocks(images), encoder.norm)[:, -1]
    expected = of_stock(stock, (images / 255 - 0.4) / 0.3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    constants = encoder.fingerprint()
    assert constants["preprocessing.size"] == str(side)
    assert constants["preprocessing.resized"] == str(side * 40 // 32)


def test_timesformer_equals_the_stock_model_with_the_size_in_its_configuration(
    tmp_path: Path,
) -> None:
    """Its blocks read the width of the grid from there."""
    save(TimesformerModel(TimesformerConfig(**PICTURES, num_frames=2)), tmp_path)
    stock = TimesformerModel.from_pretrained(tmp_path, dtype=torch.float32)
    stock.config.image_size = 64
    videos = photos(64, 2)
    found = tokens("timesformer-b", videos, weights=tmp_path, media="video", image_size=64)
    expected = of_stock(stock, normalized(videos))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_own_size_changes_no_fingerprint(tmp_path: Path) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    plain, own, other = (
        make_encoder(f"hf:{tmp_path}", EncoderSettings(image_size=side)).fingerprint()
        for side in (None, 32, 64)
    )
    assert plain == own
    assert {name for name in plain if plain[name] != other[name]} == {
        "preprocessing.size",
        "preprocessing.resized",
    }


def test_a_size_of_no_whole_patches_names_the_nearest_ones(tmp_path: Path) -> None:
    name = f"hf:{hub_dinov2(tmp_path)}"
    with pytest.raises(UsageError, match=r"--image-size 50: .*patch size 16: give 48 or 64"):
        make_encoder(name, EncoderSettings(image_size=50))


def test_a_model_of_one_size_says_which_it_takes(tmp_path: Path) -> None:
    sizes = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "num_query_pool": 1}
    save(HieraModel(HieraConfig(image_size=[64, 64], **sizes)), tmp_path)
    with pytest.raises(UsageError, match=r"--image-size 128: .* for images of 64 pixels alone"):
        make_encoder(f"hf:{tmp_path}", EncoderSettings(image_size=128))


def test_audio_has_no_image_size(tmp_path: Path) -> None:
    make_tiny("ast", tmp_path)
    with pytest.raises(UsageError, match="ast takes no square images: leave out --image-size"):
        make_encoder("ast", EncoderSettings(weights=tmp_path, image_size=224))


def test_a_fixed_model_with_a_crop_of_another_size_names_both_ways_out(tmp_path: Path) -> None:
    make_tiny("clip-vit-l14", tmp_path)
    CLIPImageProcessor().save_pretrained(tmp_path)
    settings = EncoderSettings(weights=tmp_path, preprocessing="native")
    with pytest.raises(ModelError, match=r"224 pixels.*takes 32: use --image-size 32 or --prepr"):
        make_encoder("clip-vit-l14", settings)


@pytest.mark.skipif(not DINOV2.is_dir(), reason=f"needs {DINOV2} (or $EPALM_MODELS)")
@pytest.mark.parametrize(("side", "patches"), [(None, 16), (112, 8)])
def test_a_real_dinov2_equals_the_stock_model(side: int | None, patches: int) -> None:
    encoder = make_encoder(f"hf:{DINOV2}", EncoderSettings(preprocessing="native", image_size=side))
    assert encoder.positions == 1 + patches**2
    images = photos(14 * patches)
    stock = Dinov2Model.from_pretrained(DINOV2, dtype=torch.float32)
    mean, std = (
        torch.tensor(c)[:, None, None] for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        found = last_cls_tokens(encoder.blocks(images), encoder.norm)[:, -1]
    expected = of_stock(stock, (images / 255 - mean) / std)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
