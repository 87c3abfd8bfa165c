"""Models of Hugging Face whose inputs are no images, videos or audio of a known form."""

from pathlib import Path

import pytest
from transformers import (
    BertConfig,
    LlamaConfig,
    PreTrainedConfig,
    ResNetConfig,
    ResNetModel,
    T5Config,
    WavLMConfig,
)

from epalm.errors import ModelError
from epalm.extract.encoders.encoder_registry import make_encoder
from tests.extract.encoders.tiny_encoders import save

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
    reason = f"is a {kind}, {taken}: hf: takes models of images, .* videomae, .* docs/encoders.md"
    with pytest.raises(ModelError, match=reason):
        make_encoder(f"hf:{tmp_path}")


def test_images_without_a_size_in_config_json_are_refused(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    save(ResNetModel(config), tmp_path)
    with pytest.raises(ModelError, match=r"resnet, whose config.json has image_size None,"):
        make_encoder(f"hf:{tmp_path}")
