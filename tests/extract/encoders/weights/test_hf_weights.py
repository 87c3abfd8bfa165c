"""Hugging Face folders as the world has them: prefixes, classifiers, surplus, other grids."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTForImageClassification, ViTModel

from epalm.errors import ModelError
from epalm.extract.encoders.encoder_registry import EncoderSettings, last_cls_tokens, make_encoder
from epalm.extract.encoders.weights.hf_weights import load_model, read_config
from tests.extract.encoders.presets.test_image_size import of_stock, photos
from tests.extract.encoders.tiny_encoders import PICTURES, SIZES, make_tiny, normalized, save
from tests.extract.encoders.zoo.hf_models import WHISPER


def rewrite(folder: Path, prefix: str = "", **more: Tensor) -> None:
    """Put a prefix before the names of a folder's weights, and add others."""
    file = folder / "model.safetensors"
    state = {f"{prefix}{name}": tensor for name, tensor in load_file(file).items()}
    save_file(state | more, file, metadata={"format": "pt"})


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.encoder.", "teacher.backbone."])
def test_a_prefix_of_the_training_code_changes_nothing(tmp_path: Path, prefix: str) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    expected = make_encoder(f"hf:{tmp_path}").fingerprint()
    rewrite(tmp_path, prefix)
    assert make_encoder(f"hf:{tmp_path}").fingerprint() == expected


def test_the_classifier_of_a_folder_is_listed_as_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(ViTForImageClassification(ViTConfig(**PICTURES)), tmp_path)
    with caplog.at_level(logging.INFO):
        make_encoder(f"hf:{tmp_path}")
    assert f"not used of {tmp_path}: classifier (2)" in caplog.messages


def test_a_prefix_before_the_whole_of_clip_changes_nothing(tmp_path: Path) -> None:
    """Its configuration and its weights contain a model of texts, too."""
    make_tiny("clip-vit-l14", tmp_path)
    settings = EncoderSettings(weights=tmp_path)
    expected = make_encoder("clip-vit-l14", settings).fingerprint()
    rewrite(tmp_path, "module.")
    assert make_encoder("clip-vit-l14", settings).fingerprint() == expected


@pytest.mark.parametrize("others", ["a_student.", "student.", "z_student."])
def test_of_several_copies_the_teacher_is_read(
    tmp_path: Path, others: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    expected = make_encoder(f"hf:{tmp_path}").fingerprint()
    state = load_file(tmp_path / "model.safetensors")
    student = {f"{others}vit.{name}": 2 * tensor for name, tensor in state.items()}
    rewrite(tmp_path, "teacher.vit.", **student)
    with caplog.at_level(logging.INFO):
        assert make_encoder(f"hf:{tmp_path}").fingerprint() == expected
    assert f"weights: teacher.vit.* of {tmp_path}" in caplog.messages
    assert f"not used of {tmp_path}: {others[:-1]} ({len(state)})" in caplog.messages


def test_a_prefix_in_weights_of_several_files_changes_nothing(tmp_path: Path) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    expected = make_encoder(f"hf:{tmp_path}").fingerprint()
    rewrite(tmp_path, "module.")
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    files = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(state)}
    for file in set(files.values()):
        part = {name: tensor for name, tensor in state.items() if files[name] == file}
        save_file(part, tmp_path / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert make_encoder(f"hf:{tmp_path}").fingerprint() == expected


@pytest.mark.parametrize("prefix", ["", "vit.", "module."])
def test_more_blocks_than_the_configuration_says_are_refused(tmp_path: Path, prefix: str) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    rewrite(tmp_path, prefix)
    fewer = PICTURES | {"num_hidden_layers": SIZES["num_hidden_layers"] - 1}
    ViTConfig(**fewer).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"its config\.json has no place: .*\.6\..* and \d+ more"):
        make_encoder(f"hf:{tmp_path}")


def test_only_further_blocks_of_the_encoder_of_whisper_are_refused(tmp_path: Path) -> None:
    save(hf.WhisperModel(hf.WhisperConfig(**WHISPER)), tmp_path)
    rewrite(tmp_path, **{"decoder.layers.9.fc1.bias": torch.ones(1)})
    load_model(str(tmp_path), read_config(str(tmp_path)), "cpu")
    rewrite(tmp_path, **{"encoder.layers.9.fc1.bias": torch.ones(1)})
    with pytest.raises(ModelError, match=r"has no place: encoder\.layers\.9\.fc1\.bias: correct"):
        load_model(str(tmp_path), read_config(str(tmp_path)), "cpu")


def test_register_tokens_without_their_place_are_refused_but_mask_tokens_are_not(
    tmp_path: Path,
) -> None:
    save(Dinov2Model(Dinov2Config(**PICTURES, use_mask_token=False)), tmp_path)
    rewrite(tmp_path, **{"embeddings.mask_token": torch.ones(1, 32)})
    make_encoder(f"hf:{tmp_path}")
    rewrite(tmp_path, **{"embeddings.register_tokens": torch.ones(1, 4, 32)})
    with pytest.raises(ModelError, match=r"has no place: embeddings\.register_tokens: correct"):
        make_encoder(f"hf:{tmp_path}")


def test_what_no_prefix_explains_is_refused_by_name(tmp_path: Path) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    file = tmp_path / "model.safetensors"
    state = {f"module.{name}": tensor for name, tensor in load_file(file).items()}
    del state["module.embeddings.cls_token"]
    save_file(state | {"other": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights of its vit: .*embeddings\.cls_token"):
        make_encoder(f"hf:{tmp_path}")


def for_another_side(model: hf.PreTrainedModel, folder: Path, side: int) -> None:
    """Save a model with another size of images in config.json than its weights have."""
    save(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_size": side}))


@pytest.mark.parametrize(
    ("prefix", "side", "given"), [("", 32, None), ("module.", 96, None), ("", 32, 96), ("", 32, 64)]
)
def test_positions_of_another_grid_are_interpolated_as_the_model_does(
    tmp_path: Path, prefix: str, side: int, given: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    stock = ViTModel(ViTConfig(**PICTURES | {"image_size": 64}))
    for_another_side(stock, tmp_path, side)
    rewrite(tmp_path, prefix)
    images = photos(given or side)
    with caplog.at_level(logging.INFO):
        encoder = make_encoder(f"hf:{tmp_path}", EncoderSettings(image_size=given))
    with torch.inference_mode():
        found = last_cls_tokens(encoder.blocks(images), encoder.norm)[:, -1]
    expected = of_stock(stock, normalized(images), interpolate_pos_encoding=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    grid = (given or side) // 16
    change = f"position embeddings from 4 x 4 to {grid} x {grid}"
    assert any(change in message for message in caplog.messages) == (grid != 4)


def test_a_family_that_cannot_interpolate_is_refused_with_both_grids(tmp_path: Path) -> None:
    config = hf.Aimv2VisionConfig(**PICTURES | {"image_size": 64})
    for_another_side(hf.Aimv2VisionModel(config), tmp_path, 32)
    with pytest.raises(
        ModelError,
        match=r"have positions for 4 x 4 patches, its config\.json for 2 x 2, .*size 64",
    ):
        make_encoder(f"hf:{tmp_path}")
    assert make_encoder(f"hf:{tmp_path}", EncoderSettings(image_size=64)).positions == 16


def test_positions_of_no_square_are_refused_with_both_shapes(tmp_path: Path) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    positions: dict[str, Any] = {"embeddings.position_embeddings": torch.ones(1, 13, 32)}
    rewrite(tmp_path, **positions)
    with pytest.raises(ModelError, match=r"the shape \(1, 13, 32\), expected \(1, 5, 32\)"):
        make_encoder(f"hf:{tmp_path}")
