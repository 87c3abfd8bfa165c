"""Real weights over real files: token policies equal hooks on the library's own model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import timm
import torch
import torchaudio.functional
from safetensors.torch import load_file
from torch import Tensor
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from epalm.extract.encoders.encoder_registry import EncoderSettings, make_encoder, normed_tokens
from epalm.extract.encoders.tokens.token_encoder import with_tokens
from epalm.tasks.types import MediaItem
from tests.extract.encoders.tiny_encoders import normalized
from tests.extract.encoders.zoo.hf_models import whisper
from tests.extract.encoders.zoo.reference import Stock, expected, rows_of
from tests.extract.helpers import REAL_PHOTOS, REAL_WEIGHTS, SHARED

MODELS = Path(os.environ.get("EPALM_MODELS") or Path.home() / ".cache/epalm-models")
WHISPER = MODELS / "whisper-tiny.en-encoder"
SOUNDS = SHARED / "data/esc10"


def kept(name: str, settings: EncoderSettings, policy: str, inputs: Tensor) -> Tensor:
    encoder = with_tokens(make_encoder(name, settings), policy, "0,2")
    with torch.inference_mode():
        blocks = encoder.blocks(inputs, layers=(0, 2), positions=encoder.positions)
        return normed_tokens(blocks, encoder.norm)


def at_16_khz(path: Path) -> np.ndarray:
    """The mean of the channels, resampled by torchaudio."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = torch.from_numpy(samples.mean(axis=1))
    return torchaudio.functional.resample(mono, rate, 16_000).numpy()


@pytest.mark.skipif(not REAL_WEIGHTS.is_file(), reason=f"needs {REAL_WEIGHTS}")
@pytest.mark.parametrize("policy", ["cls", "mean", "pool:3x4", "all"])
def test_the_real_vit_ti_over_real_photos(policy: str) -> None:
    settings = EncoderSettings(weights=REAL_WEIGHTS)
    load = make_encoder("vit-ti16", settings).load
    paths = sorted(REAL_PHOTOS.glob("*.jpg"))[:2]
    items = [MediaItem(path.name, path.parent, path.name) for path in paths]
    inputs = torch.stack([torch.as_tensor(load(item, 0)) for item in items])
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    state = load_file(REAL_WEIGHTS)
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("head")})
    stock = Stock(
        model,
        lambda pixels: model.forward_features(normalized(pixels)),
        list(model.blocks),
        rows_of(14),
        special=1,
        class_token=True,
        norm=model.norm,
    )
    found = kept("vit-ti16", settings, policy, inputs)
    torch.testing.assert_close(found, expected(stock, policy, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    not WHISPER.is_dir() or not SOUNDS.is_dir(),
    reason=f"needs {WHISPER} (or $EPALM_MODELS) and {SOUNDS}",
)
@pytest.mark.parametrize("policy", ["mean", "pool:6x1"])
def test_the_real_whisper_over_real_sounds(policy: str) -> None:
    lines = (SOUNDS / "val.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["media"] for line in lines[:2]]
    settings = EncoderSettings(media="audio")
    load = make_encoder(f"hf:{WHISPER}", settings).load
    inputs = torch.stack(
        [torch.as_tensor(load(MediaItem(name, SOUNDS, name, "audio"), 0)) for name in names]
    )
    library = WhisperFeatureExtractor.from_pretrained(WHISPER)
    mono = [at_16_khz(SOUNDS / name) for name in names]
    features = library(mono, sampling_rate=16_000, return_tensors="pt")["input_features"]
    torch.testing.assert_close(inputs, features, rtol=0, atol=1e-4)
    stock = whisper(WhisperEncoder.from_pretrained(WHISPER, dtype=torch.float32).eval())
    found = kept(f"hf:{WHISPER}", settings, policy, inputs)
    torch.testing.assert_close(found, expected(stock, policy, inputs), rtol=1e-5, atol=1e-5)
