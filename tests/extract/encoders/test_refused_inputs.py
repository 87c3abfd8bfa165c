"""Models of Hugging Face whose inputs are no images, videos or audio of a known form."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    LlamaConfig,
    PreTrainedConfig,
    ResNetConfig,
    ResNetModel,
    T5Config,
    ViTConfig,
    ViTModel,
    WavLMConfig,
)

from epalm.errors import ModelError
from epalm.extract.encoders.encoder_registry import make_encoder
from tests.extract.encoders.tiny_encoders import PICTURES, layers_of, save

OTHER_MODELS: dict[str, tuple[type[PreTrainedConfig], str]] = {
    "bert": (BertConfig, "a model of text"),
    "t5": (T5Config, "a model of text"),
    "llama": (LlamaConfig, "a model of text"),
    "wavlm": (WavLMConfig, "a model of audio"),
}


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_a_model_of_other_inputs_is_refused_before_its_weights_are_read(
    kind: str, tmp_path: Path
) -> None:
    config, taken = OTHER_MODELS[kind]
    config().save_pretrained(tmp_path)
    page = "docs/reference/encoders.md"
    reason = f"is a {kind}, {taken}: hf: takes models of images, .* videomae, .* {page}"
    with pytest.raises(ModelError, match=reason):
        make_encoder(f"hf:{tmp_path}")


def test_weights_that_are_not_finite_are_called_damaged(tmp_path: Path) -> None:
    model = ViTModel(ViTConfig(**PICTURES))
    save(model, tmp_path)
    for weight in layers_of(model)[0].parameters():  # attention hides NaN in queries alone
        weight.data[0] = torch.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"tokens that are not finite numbers: .* are damaged;"):
        make_encoder(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("patch_size", 0, "zero"),
        ("hidden_size", "32", "'hidden_size' expected int, got str"),
        ("hidden_act", "foo", "foo"),
    ],
)
def test_a_folder_with_an_impossible_configuration_is_called_one(
    key: str, value: object, reason: str, tmp_path: Path
) -> None:
    save(ViTModel(ViTConfig(**PICTURES)), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    message = rf"^no encoder could be loaded from the folder {tmp_path} \(.*{reason}.*\): get its "
    with pytest.raises(ModelError, match=message):
        make_encoder(f"hf:{tmp_path}")


def test_images_without_a_size_in_config_json_are_refused(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    save(ResNetModel(config), tmp_path)
    with pytest.raises(ModelError, match=r"resnet, whose config.json has image_size None,"):
        make_encoder(f"hf:{tmp_path}")
