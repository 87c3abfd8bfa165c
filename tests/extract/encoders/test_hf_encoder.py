"""Models from Hugging Face: which serve, what is said of those that do not, their own constants."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    ASTFeatureExtractor,
    CLIPImageProcessor,
    PreTrainedModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEVideoProcessor,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from epalm.errors import MissingFileError, ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings, last_cls_tokens, make_encoder
from epalm.extract.encoders.presets.processor_config import native_audio, native_images
from epalm.extract.transforms.image_preset import preset_for
from epalm.tasks.types import MediaItem
from tests.extract.encoders.tiny_encoders import PICTURES, SIDE, make_tiny, save
from tests.extract.helpers import noise

DECODER = {"decoder_hidden_size": 32, "decoder_num_attention_heads": 4}


UNFIT: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "vitmae": (
        lambda: ViTMAEModel(ViTMAEConfig(**PICTURES | {"patch_size": 4}, **DECODER)),
        "gives different tokens in each run",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_model_without_tokens_of_its_blocks_is_refused_with_the_reason(
    kind: str, tmp_path: Path
) -> None:
    make, reason = UNFIT[kind]
    save(make(), tmp_path)
    with pytest.raises(ModelError, match=reason):
        make_encoder(f"hf:{tmp_path}")


def test_a_folder_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    with pytest.raises(ModelError, match="is a vit, but timesformer-b is a timesformer"):
        make_encoder("timesformer-b", EncoderSettings(weights=tmp_path))


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_initialized_at_random(
    tmp_path: Path,
) -> None:
    save(TimesformerModel(TimesformerConfig(**PICTURES)), tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    del state["encoder.layer.3.temporal_dense.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights.*layer\.3\.temporal_dense"):
        make_encoder("timesformer-b", EncoderSettings(weights=tmp_path))


def test_a_weight_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    save(TimesformerModel(TimesformerConfig(**PICTURES)), tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    name = "encoder.layer.3.temporal_dense.bias"
    width = len(state[name])
    save_file(state | {name: torch.zeros(width + 1)}, file, metadata={"format": "pt"})
    shapes = re.escape(f"{name} has the shape ({width + 1},), expected ({width},): download")
    with pytest.raises(ModelError, match=shapes):
        make_encoder("timesformer-b", EncoderSettings(weights=tmp_path))


def test_missing_weights_are_named_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no such folder; ast needs a folder with config"):
        make_encoder("ast", EncoderSettings(weights=tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"expected config.json in the folder, found no files"):
        make_encoder(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(UsageError, match="hf: needs an id on the hub or a folder"):
        make_encoder("hf:")
    with pytest.raises(UsageError, match="already specifies the weights: leave out --weights"):
        make_encoder("hf:a/b", EncoderSettings(weights=tmp_path))


def test_settings_of_videos_are_refused_for_other_encoders(tmp_path: Path) -> None:
    video = make_tiny("timesformer-b", tmp_path / "v").settings.weights
    audio = make_tiny("ast", tmp_path / "a").settings.weights
    with pytest.raises(
        UsageError, match="encodes all frames of a video at once: leave out --frames-pool"
    ):
        make_encoder("timesformer-b", EncoderSettings(weights=video, frames_pool="mean"))
    with pytest.raises(UsageError, match="--frames and --frames-pool are options of videos only"):
        make_encoder("timesformer-b", EncoderSettings(weights=video, media="image", frames=4))
    with pytest.raises(UsageError, match="--frames and --frames-pool are options of videos only"):
        make_encoder("ast", EncoderSettings(weights=audio, frames=4))


def test_sixteen_frames_differ_from_a_model_configured_for_eight(tmp_path: Path) -> None:
    """The silent trap: blocks that take T from the configuration run over any number of frames."""
    tiny = make_tiny("timesformer-b", tmp_path)
    encoder = make_encoder(
        "timesformer-b", EncoderSettings(weights=tmp_path, frames=16, media="video")
    )
    clips = torch.randint(0, 256, (2, 16, 3, SIDE, SIDE), dtype=torch.uint8)
    with torch.inference_mode():
        right = last_cls_tokens(encoder.blocks(clips), encoder.norm)[:, -1]
        assert tiny.stock.config.num_frames == 8
        trapped = tiny.stock(tiny.arguments(clips)).last_hidden_state[:, 0]
        tiny.stock.config.num_frames = 16
        stock = tiny.stock(tiny.arguments(clips)).last_hidden_state[:, 0]
    torch.testing.assert_close(right, stock, rtol=0, atol=1e-5)
    assert (trapped - stock).abs().max() > 1e-2


def test_native_preprocessing_of_images_equals_the_models_own_processor(tmp_path: Path) -> None:
    make_tiny("clip-vit-l14", tmp_path)
    size, crop = {"shortest_edge": 40}, {"height": SIDE, "width": SIDE}
    own = CLIPImageProcessor(size=size, crop_size=crop, image_mean=[0.4] * 3, image_std=[0.3] * 3)
    own.save_pretrained(tmp_path)
    settings = EncoderSettings(weights=tmp_path, preprocessing="native")
    encoder = make_encoder("clip-vit-l14", settings)
    photo = Image.fromarray(noise(96, 80))
    photo.save(tmp_path / "a.png")
    found = torch.as_tensor(encoder.load(MediaItem("a", tmp_path, "a.png"), 0))
    expected = own(photo, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close((found / 255 - 0.4) / 0.3, expected, rtol=0, atol=0.02)
    assert encoder.fingerprint()["preprocessing.mean"] == "(0.4, 0.4, 0.4)"


def test_native_preprocessing_of_audio_uses_the_constants_of_the_folder(tmp_path: Path) -> None:
    make_tiny("ast", tmp_path)
    ASTFeatureExtractor(mean=-3.0, std=2.0).save_pretrained(tmp_path)
    settings = EncoderSettings(weights=tmp_path, preprocessing="native")
    constants = make_encoder("ast", settings).fingerprint()
    assert (constants["preprocessing.mean"], constants["preprocessing.std"]) == ("-3.0", "2.0")
    assert constants["preprocessing.channels"] == "mean"


@pytest.mark.parametrize("name", ["ast", "clip-vit-l14", "timesformer-b"])
def test_native_preprocessing_without_its_file_suggests_the_official_one(
    name: str, tmp_path: Path
) -> None:
    make_tiny(name, tmp_path)
    reason = (
        f"^{tmp_path} has no preprocessor_config.json, which native preprocessing needs: copy it "
        "there from the model that these weights are of, or use --preprocessing paper$"
    )
    with pytest.raises(ModelError, match=reason):
        make_encoder(name, EncoderSettings(weights=tmp_path, preprocessing="native"))


def test_the_settings_of_a_video_processor_are_read_from_its_own_file(tmp_path: Path) -> None:
    VideoMAEVideoProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, image_mean=[0.1] * 3
    ).save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    read = native_images(str(tmp_path))
    assert (read["input_size"], read["crop_pct"], read["mean"]) == ((3, 32, 32), 0.8, (0.1,) * 3)


DAMAGED: dict[str, tuple[dict[str, object], str]] = {
    "an absurd size": ({"size": {"shortest_edge": 10**9}}, "size.shortest_edge .* is 1000000000"),
    "a size in words": ({"size": "large"}, "size .* is 'large', expected a whole number from 1 to"),
    "a negative size": ({"size": {"height": -8, "width": -8}}, "size.height .* is -8, expected"),
    "no size": ({"size": {}, "crop_size": None}, "sizes {} and None .* are not square"),
    "a crop of nothing": ({"crop_size": 0}, "crop_size .* is 0, expected a whole number from 1 to"),
    "a crop without height": ({"crop_size": {"width": 32}}, "'width': 32} .* are not square"),
    "an oblong crop": ({"crop_size": {"height": 32, "width": 31}}, "are not square"),
    "a crop by halves": ({"crop_size": 32.5}, "crop_size .* is 32.5, expected a whole number"),
    "two means": ({"image_mean": [0.5, 0.5]}, "image_mean .* expected a list of 3 numbers"),
    "no mean": ({"image_mean": None}, "image_mean .* is None, expected a list of 3 numbers"),
    "a mean in words": ({"image_mean": ["a", 0, 0]}, "image_mean .* is 'a', expected a finite"),
    "an endless mean": ({"image_mean": [1e999, 0, 0]}, "image_mean .* is inf, expected a finite"),
    "a spread of 0": ({"image_std": [1, 1, 0]}, "image_std .* is 0, expected a number above 0"),
    "an unknown filter": ({"resample": 9}, "another filter; supported are"),
    "filters": ({"resample": [3]}, r"resample .* is \[3\], expected the number of a filter"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_an_impossible_value_of_the_preprocessing_is_named(tmp_path: Path, damage: str) -> None:
    changes, reason = DAMAGED[damage]
    sound = {
        "size": {"shortest_edge": 40},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(sound))
    assert preset_for("native", native_images(str(tmp_path))).resized == 40
    file.write_text(json.dumps(sound | changes))
    with pytest.raises(ModelError, match=reason) as caught:
        preset_for("native", native_images(str(tmp_path)))
    assert "--preprocessing paper" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"size": ', "[1, 2]", "7", '{"size": ' + "[" * 100_000, "\xff"])
def test_a_processor_file_that_is_not_a_json_object_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=r"preprocessor_config.json (cannot be read|is) .*paper"):
        native_images(str(tmp_path))


@pytest.mark.parametrize("std", [0, "2", None, -1.0, [2.0]])
def test_constants_of_audio_preprocessing_are_checked_too(tmp_path: Path, std: object) -> None:
    text = json.dumps({"mean": -4.2, "std": std})
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"std of .* expected a number above 0"):
        native_audio(str(tmp_path))


def test_a_processor_that_crops_to_another_size_than_the_model_is_refused(tmp_path: Path) -> None:
    make_tiny("clip-vit-l14", tmp_path)
    CLIPImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"crops to 224 pixels, but the model takes {SIDE}"):
        make_encoder("clip-vit-l14", EncoderSettings(weights=tmp_path, preprocessing="native"))


def test_audio_tracks_of_videos_are_encoded_like_audio_clips(tmp_path: Path) -> None:
    tiny = make_tiny("ast", tmp_path)
    weights = tiny.settings.weights
    of_clips = make_encoder("ast", EncoderSettings(weights=weights, media="video"))
    of_sounds = make_encoder("ast", EncoderSettings(weights=weights))
    assert (of_clips.modality, of_sounds.modality) == ("video", "audio")
    assert of_clips.fingerprint() == of_sounds.fingerprint()


def test_a_changed_weight_changes_the_fingerprint_but_a_random_pooling_layer_does_not(
    tmp_path: Path,
) -> None:
    make_tiny("hf: ViT", tmp_path)
    name = f"hf:{tmp_path}"
    one, again = (make_encoder(name).fingerprint() for _ in range(2))
    assert one == again
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    changed = next(key for key in sorted(state) if "layer" in key and key.endswith("weight"))
    state[changed] = state[changed] + 1e-3
    save_file(state, file, metadata={"format": "pt"})
    other = make_encoder(name).fingerprint()
    assert {key for key in one if one[key] != other[key]} == {"weights_sha256"}
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "vit"


def test_bf16_products_stay_near_float32(tmp_path: Path) -> None:
    weights = make_tiny("timesformer-b", tmp_path).settings.weights
    clips = torch.from_numpy(np.stack([noise(SIDE, SIDE, seed=n) for n in range(8)]))
    batch = clips.permute(0, 3, 1, 2)[None]
    tokens = []
    for precision in ("fp32", "bf16"):
        encoder = make_encoder(
            "timesformer-b", EncoderSettings(weights=weights, precision=precision, media="video")
        )
        with torch.inference_mode():
            tokens.append(last_cls_tokens(encoder.blocks(batch), encoder.norm))
    assert tokens[1].dtype == torch.float32
    difference = (tokens[0] - tokens[1]).abs().max()
    assert 0 < difference < 0.1
