"""Hugging Face folders as the world has them: prefixes, classifiers, surplus blocks."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from epalm.errors import ModelError
from epalm.extract.encoders.encoder_registry import make_encoder
from tests.extract.encoders.tiny_encoders import PICTURES, SIZES, save


def renamed(folder: Path, prefix: str) -> None:
    file = folder / "model.safetensors"
    state = {f"{prefix}{name}": tensor for name, tensor in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.encoder.", "teacher.backbone."])
def test_a_prefix_of_the_training_code_changes_nothing(tmp_path: Path, prefix: str) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    expected = make_encoder(f"hf:{tmp_path}").fingerprint()
    renamed(tmp_path, prefix)
    assert make_encoder(f"hf:{tmp_path}").fingerprint() == expected


def test_the_classifier_of_a_folder_is_listed_as_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(ViTForImageClassification(ViTConfig(**PICTURES)), tmp_path)
    with caplog.at_level(logging.INFO):
        make_encoder(f"hf:{tmp_path}")
    assert f"not used of {tmp_path}: classifier (2)" in caplog.messages


def test_more_blocks_than_the_configuration_says_are_refused(tmp_path: Path) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    fewer = PICTURES | {"num_hidden_layers": SIZES["num_hidden_layers"] - 1}
    ViTConfig(**fewer).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"weights of more blocks than its config\.json: .*\.6\."):
        make_encoder(f"hf:{tmp_path}")


def test_what_no_prefix_explains_is_refused_by_name(tmp_path: Path) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    file = tmp_path / "model.safetensors"
    state = {f"module.{name}": tensor for name, tensor in load_file(file).items()}
    del state["module.embeddings.cls_token"]
    save_file(state | {"other": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights of its vit: .*embeddings\.cls_token"):
        make_encoder(f"hf:{tmp_path}")
