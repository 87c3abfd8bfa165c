"""Every encoder with a tiny random configuration, saved as a local folder.

A new entry of ENCODERS needs one here, and is then held to the contract of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    ASTModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    TimesformerConfig,
    TimesformerForVideoClassification,
    TimesformerModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from epalm.extract.encoders import timm_vit
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.tasks.types import MediaItem, Modality
from tests.extract.helpers import TINY, noise, random_model, save_weights

SIDE = 32
"""Pixels of the tiny models from Hugging Face."""

TINY_SIDE = 160
"""Pixels of timm's own test model."""

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
PICTURES = {**SIZES, "image_size": SIDE, "patch_size": 16}
BINS, FRAMES = 32, 128

CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)


@dataclass(frozen=True)
class Tiny:
    """One way to use an encoder.

    Attributes:
        name: as on the command line.
        settings: with the weights.
        media: what it is given.
        stock: the library's own model of the same weights, ready for `arguments`.
        arguments: (B, ...) decoded inputs -> what the stock model is called with.
        blocks: transformer blocks of the stock model.
        norm: final norm of the stock model.
        pooled: frames whose tokens are averaged; 0 for none.
    """

    name: str
    settings: EncoderSettings
    media: Modality
    stock: nn.Module
    arguments: Callable[[Tensor], Tensor]
    blocks: Sequence[nn.Module]
    norm: nn.Module
    pooled: int = 0


def tiny_vit(folder: Path, name: str) -> Tiny:
    folder.mkdir(exist_ok=True)
    weights = save_weights(random_model("test_vit"), folder / "vit.safetensors")
    stock = timm.create_model("test_vit", num_classes=0)
    stock.load_state_dict(load_file(weights))
    settings = EncoderSettings(weights=weights)
    return Tiny(name, settings, "image", stock.eval(), normalized, stock.blocks, stock.norm)


def tiny_vit_over_clips(folder: Path, name: str) -> Tiny:
    """The mean of frames, 3 of a clip."""
    tiny = tiny_vit(folder, name)
    settings = replace(tiny.settings, media="video", frames=3, frames_pool="mean")
    return replace(tiny, settings=settings, media="video", arguments=flattened, pooled=3)


def tiny_clip(folder: Path, name: str) -> Tiny:
    texts = {**SIZES, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 2}
    saved = CLIPModel(CLIPConfig(text_config=texts, vision_config=PICTURES))
    stock = CLIPVisionModel.from_pretrained(save(saved, folder), dtype=torch.float32)
    tower = getattr(stock, "vision_model", stock)
    settings = weights_of(name, folder)
    blocks, norm = tower.encoder.layers, tower.post_layernorm
    return Tiny(name, settings, "image", stock, normalized, blocks, norm)


def tiny_hf_vit(folder: Path, name: str) -> Tiny:
    """A classifier's checkpoint, which lacks the pooling layer that the bare model has."""
    save(ViTForImageClassification(ViTConfig(**PICTURES)), folder)
    stock = ViTModel.from_pretrained(folder, dtype=torch.float32)
    settings = weights_of(name, folder)
    return Tiny(name, settings, "image", stock, normalized, layers_of(stock), stock.layernorm)


def tiny_dinov2(folder: Path, name: str) -> Tiny:
    stock = Dinov2Model.from_pretrained(save(Dinov2Model(Dinov2Config(**PICTURES)), folder))
    settings = weights_of(name, folder)
    return Tiny(name, settings, "image", stock, normalized, layers_of(stock), stock.layernorm)


def tiny_timesformer(folder: Path, name: str) -> Tiny:
    save(TimesformerForVideoClassification(TimesformerConfig(**PICTURES, num_frames=8)), folder)
    stock = TimesformerModel.from_pretrained(folder, dtype=torch.float32)
    settings = weights_of(name, folder)
    settings = replace(settings, media="video")
    return Tiny(name, settings, "video", stock, normalized, layers_of(stock), stock.layernorm)


def tiny_timesformer_16(folder: Path, name: str) -> Tiny:
    """16 frames with a checkpoint of 8: the stock model gets them from its configuration."""
    tiny = tiny_timesformer(folder, name)
    tiny.stock.config.num_frames = 16
    return replace(tiny, settings=replace(tiny.settings, frames=16))


def tiny_timesformer_of_photos(folder: Path, name: str) -> Tiny:
    """One frame, no time embedding."""
    tiny = tiny_timesformer(folder, name)
    tiny.stock.config.num_frames = 1
    nn.init.zeros_(tiny.stock.embeddings.time_embeddings)
    settings = replace(tiny.settings, media="image")
    return replace(tiny, settings=settings, media="image", arguments=one_frame)


def tiny_ast(folder: Path, name: str) -> Tiny:
    sizes = {"num_mel_bins": BINS, "max_length": FRAMES, "frequency_stride": 8, "time_stride": 16}
    save(ASTForAudioClassification(ASTConfig(**SIZES, **sizes)), folder)
    stock = ASTModel.from_pretrained(folder, dtype=torch.float32)
    settings = weights_of(name, folder)
    return Tiny(name, settings, "audio", stock, standardised, layers_of(stock), stock.layernorm)


MAKERS: dict[str, tuple[str, Callable[[Path, str], Tiny]]] = {
    "timm": (TINY, tiny_vit),
    "timm over clips": (TINY, tiny_vit_over_clips),
    "clip-vit-l14": ("clip-vit-l14", tiny_clip),
    "timesformer-b": ("timesformer-b", tiny_timesformer),
    "timesformer-b, 16 frames": ("timesformer-b", tiny_timesformer_16),
    "timesformer-b of photos": ("timesformer-b", tiny_timesformer_of_photos),
    "ast": ("ast", tiny_ast),
    "hf: ViT": ("hf:", tiny_hf_vit),
    "hf: DINOv2": ("hf:", tiny_dinov2),
    "hf: TimeSformer": ("hf:", tiny_timesformer),
    "hf: AST": ("hf:", tiny_ast),
}
"""Case -> name of the encoder ("hf:" is completed by the folder), and what makes it.

timm's ViTs stand for vit-ti16 to vit-l16, whose shape is fixed.
"""


def make_tiny(case: str, folder: Path) -> Tiny:
    name, make = MAKERS[case]
    return make(folder, f"hf:{folder}" if name == "hf:" else name)


def covered() -> set[str]:
    """The names of ENCODERS that a case stands for."""
    return {name for name, _ in MAKERS.values()} | set(timm_vit.ARCHITECTURES)


def layers_of(stock: PreTrainedModel) -> Sequence[nn.Module]:
    """The blocks, which later versions of transformers hold in the model itself."""
    return stock.encoder.layer if hasattr(stock, "encoder") else stock.layers


def save(model: PreTrainedModel, folder: Path) -> Path:
    """Random weights of a size that makes every block matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            scales = parameter.dim() == 1 and "norm" in name and name.endswith("weight")
            nn.init.normal_(parameter, mean=float(scales), std=0.15)
    model.save_pretrained(folder)
    return folder


def weights_of(name: str, folder: Path) -> EncoderSettings:
    return EncoderSettings(weights=None if name.startswith("hf:") else folder)


def normalized(pixels: Tensor) -> Tensor:
    return (pixels / 255 - CLIP_MEAN) / CLIP_STD


def flattened(clips: Tensor) -> Tensor:
    return normalized(clips.flatten(0, 1))


def one_frame(photos: Tensor) -> Tensor:
    return normalized(photos).unsqueeze(1)


def standardised(banks: Tensor) -> Tensor:
    return (banks + 4.2677393) / (2 * 4.5689974)


def save_media(folder: Path, media: Modality, count: int) -> list[MediaItem]:
    """Photos, clips of 20 frames, or recordings of 1.3 s, each another."""
    return [SAVERS[media](folder, number) for number in range(count)]


def _photo(folder: Path, number: int) -> MediaItem:
    Image.fromarray(noise(50, 40, seed=number)).save(folder / f"{number}.png")
    return MediaItem(f"k{number}", folder, f"{number}.png", "image")


def _clip(folder: Path, number: int) -> MediaItem:
    frames = [Image.fromarray(noise(20, 15, seed=100 * number + frame)) for frame in range(20)]
    frames[0].save(folder / f"{number}.gif", save_all=True, append_images=frames[1:], duration=40)
    return MediaItem(f"k{number}", folder, f"{number}.gif", "video")


def _recording(folder: Path, number: int) -> MediaItem:
    samples = np.random.default_rng(number).normal(0, 0.1, 20_800)
    soundfile.write(folder / f"{number}.wav", samples, 16_000)
    return MediaItem(f"k{number}", folder, f"{number}.wav", "audio")


SAVERS: dict[Modality, Callable[[Path, int], MediaItem]] = {
    "image": _photo,
    "video": _clip,
    "audio": _recording,
}
