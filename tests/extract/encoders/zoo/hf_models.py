"""Tiny random models of Hugging Face's families, each with what is known of its architecture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import Tensor

from epalm.tasks.types import Modality
from tests.extract.encoders.tiny_encoders import PICTURES, SIZES, normalized, save
from tests.extract.encoders.zoo.reference import Stock, nothing, rows_of

TEXT = {**SIZES, "num_hidden_layers": 2, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 2}
CONVOLUTIONS = {
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (64, 50),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
WHISPER = {
    **{"d_model": 32, "encoder_layers": 3, "decoder_layers": 1, "vocab_size": 60},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_mel_bins": 8},
    **{"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_source_positions": 50},
    **{"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2},
}
CLAP = {
    **{"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "hidden_size": 32},
    **{"patch_stride": [4, 4], "patch_embeds_hidden_size": 16, "depths": [1, 3]},
    **{"num_attention_heads": [2, 2], "projection_dim": 16, "aff_block_r": 2},
}
STAGES = {"image_size": 32, "num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 3]}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 3], "num_heads": [1, 2]}
VIDEO = {**PICTURES, "num_frames": 4}
VJEPA = {
    **SIZES,
    **{"crop_size": 32, "patch_size": 16, "frames_per_clip": 4, "tubelet_size": 2},
    **{"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 2},
}


@dataclass(frozen=True)
class Family:
    """How a family's model is made, saved and run.

    Attributes:
        make: makes the model that is saved.
        stock: makes what is known of the loaded model.
        media: modality of its samples.
        extractor: feature extractor that is saved beside it.
        load: class that loads the stock model; by default that of the saved one.
        part: attribute of the loaded model that is the encoder.
    """

    make: Callable[[], Any]
    stock: Callable[[Any], Stock]
    media: Modality = "image"
    extractor: Callable[[], Any] | None = None
    load: Any = None
    part: str = ""

    def create(self, folder: Path) -> Stock:
        """Save the model, and load it as a stock model."""
        model = self.make()
        save(model, folder)
        if self.extractor:
            self.extractor().save_pretrained(folder)
        stock = (self.load or type(model)).from_pretrained(folder, dtype=torch.float32).eval()
        return self.stock(getattr(stock, self.part) if self.part else stock)


def pixels(model: Any, name: str = "pixel_values", **more: Any) -> Callable[[Tensor], Any]:  # noqa: ANN401
    return lambda batch: model(**{name: normalized(batch)}, **more)


def vision(
    *,
    special: int = 0,
    norm: str = "layernorm",
    head: bool = False,
    blocks: str = "",
    columns: int = 2,
) -> Callable[[Any], Stock]:
    """A vision transformer: the names of its norm and blocks, and how many tokens come first."""

    def stock(model: Any) -> Stock:  # noqa: ANN401
        return Stock(
            model,
            pixels(model),
            layers_of(model, blocks),
            rows_of(columns),
            special=special,
            class_token=special > 0,
            norm=model.get_submodule(norm) if norm else nothing,
            attention_pool=model.head if head else None,
        )

    return stock


def layers_of(model: Any, path: str = "") -> list[Any]:  # noqa: ANN401
    modules = dict(model.named_modules())
    names = (path, "encoder.layer", "encoder.layers", "model.layer", "layer", "layers")
    return next(list(modules[name]) for name in names if name and name in modules)


def beit(model: Any) -> Stock:  # noqa: ANN401
    """Its norm follows the average over patches."""
    return Stock(
        model,
        pixels(model),
        layers_of(model),
        rows_of(2),
        special=1,
        class_token=True,
        pooled_norm=model.pooler.layernorm,
    )


def naflex(model: Any) -> Stock:  # noqa: ANN401
    """SigLIP2's tower takes patches, here by unfold; 16 of 8 x 8 pixels."""

    def run(batch: Tensor) -> Any:  # noqa: ANN401
        columns = torch.nn.functional.unfold(normalized(batch), 8, stride=8)  # channel, row, column
        patches = columns.transpose(1, 2).unflatten(2, (3, 64)).transpose(2, 3).flatten(2)
        count = len(batch)
        shapes = torch.tensor([[4, 4]] * count)
        mask = torch.ones(count, 16, dtype=torch.long)
        return model(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)

    blocks = list(model.encoder.layers)
    norm, head = model.post_layernorm, model.head
    return Stock(model, run, blocks, rows_of(4), norm=norm, attention_pool=head)


def swin(model: Any) -> Stock:  # noqa: ANN401
    blocks = [block for stage in model.encoder.layers for block in stage.blocks]
    kept = (1, 3)
    return Stock(model, pixels(model), blocks, rows_of(4), norm=model.layernorm, kept=kept)


def convnext(model: Any) -> Stock:  # noqa: ANN401
    return Stock(
        model,
        pixels(model),
        [block for stage in model.encoder.stages for block in stage.layers],
        lambda states: states.permute(0, 2, 3, 1),
        pooled_norm=model.layernorm,
        kept=(1, 3),
    )


def tubes(norm: str = "", *, special: int = 0, **arguments: Any) -> Callable[[Any], Stock]:  # noqa: ANN401
    """A model of videos: 2 times of 2 x 2 patches."""

    def stock(model: Any) -> Stock:  # noqa: ANN401
        return Stock(
            model,
            pixels(model, **arguments),
            layers_of(model),
            lambda patches: patches.unflatten(1, (2, 2, 2)),
            special=special,
            class_token=special > 0,
            norm=model.get_submodule(norm) if norm else nothing,
            pool="pool:2x1x2",
        )

    return stock


def timesformer(model: Any) -> Stock:  # noqa: ANN401
    """The frames of a patch come one after the other."""
    return Stock(
        model,
        pixels(model),
        layers_of(model),
        lambda patches: patches.unflatten(1, (2, 2, 4)).permute(0, 3, 1, 2, 4),
        special=1,
        class_token=True,
        norm=model.layernorm,
        pool="pool:2x2x1",
    )


def spoken(model: Any) -> Stock:  # noqa: ANN401
    """wav2vec 2.0 and HuBERT: tokens over time."""
    stable = model.config.do_stable_layer_norm
    return Stock(
        model,
        lambda waves: model(input_values=waves),
        layers_of(model),
        lambda tokens: tokens,
        norm=model.encoder.layer_norm if stable else nothing,
        pool="pool:7x1",
    )


def whisper(model: Any) -> Stock:  # noqa: ANN401
    return Stock(
        model,
        lambda mels: model(input_features=mels),
        list(model.layers),
        lambda tokens: tokens,
        norm=model.layer_norm,
        pool="pool:7x1",
    )


def clap(model: Any) -> Stock:  # noqa: ANN401
    """Time is folded into rows: 4 parts of it, each with its frequencies."""
    encoder = model.audio_encoder
    fused = encoder.config.enable_fusion

    def run(mels: Tensor) -> Any:  # noqa: ANN401
        longer = torch.zeros(len(mels), 1, dtype=torch.bool) if fused else None
        return model(input_features=mels, is_longer=longer)

    return Stock(
        model,
        run,
        [block for stage in encoder.layers for block in stage.blocks],
        # part of time, frequency, time within the part -> time, frequency
        lambda tokens: tokens.unflatten(1, (4, 2, 8)).transpose(2, 3).flatten(1, 2),
        norm=encoder.norm,
        pool="pool:8x2",
        kept=(1, 3),
    )


def ast(model: Any) -> Stock:  # noqa: ANN401
    """Frequencies one after the other, each with its times."""
    return Stock(
        model,
        lambda banks: model(input_values=(banks + 4.2677393) / (2 * 4.5689974)),
        layers_of(model),
        lambda tokens: tokens.unflatten(1, (3, 8)).transpose(1, 2),
        special=2,
        class_token=True,
        norm=model.layernorm,
        pool="pool:4x3",
    )


AST = {"num_mel_bins": 32, "max_length": 128, "frequency_stride": 8, "time_stride": 16}


def short_whisper() -> Any:  # noqa: ANN401
    """One second of 100 frames with 8 bins."""
    return hf.WhisperFeatureExtractor(feature_size=8, chunk_length=1)


def coarse_clap(truncation: str) -> Callable[[], Any]:
    """Ten seconds of 101 frames with 16 bins."""
    return lambda: hf.ClapFeatureExtractor(16, hop_length=4800, truncation=truncation)


POST = "post_layernorm"

HF: dict[str, Family] = {
    "ViT": Family(lambda: hf.ViTModel(hf.ViTConfig(**PICTURES)), vision(special=1)),
    "DeiT": Family(lambda: hf.DeiTModel(hf.DeiTConfig(**PICTURES)), vision(special=2)),
    "DINOv2": Family(lambda: hf.Dinov2Model(hf.Dinov2Config(**PICTURES)), vision(special=1)),
    "DINOv2 with registers": Family(
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**PICTURES)),
        vision(special=5),
    ),
    "DINOv3": Family(
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**PICTURES, num_register_tokens=4)),
        vision(special=5, norm="norm"),
    ),
    "I-JEPA": Family(lambda: hf.IJepaModel(hf.IJepaConfig(**PICTURES)), vision()),
    "SigLIP": Family(
        lambda: hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=PICTURES)),
        vision(norm=POST, head=True),
        load=hf.SiglipVisionModel,
    ),
    "SigLIP2 NaFlex": Family(
        lambda: hf.Siglip2VisionModel(
            hf.Siglip2VisionConfig(**SIZES, patch_size=8, num_patches=16)
        ),
        naflex,
    ),
    "AIMv2": Family(
        lambda: hf.Aimv2VisionModel(hf.Aimv2VisionConfig(**PICTURES)),
        vision(norm="rms_norm", head=True),
    ),
    "BEiT": Family(lambda: hf.BeitModel(hf.BeitConfig(**PICTURES)), beit),
    "Swin": Family(lambda: hf.SwinModel(hf.SwinConfig(**SWIN, window_size=4)), swin),
    "Swin v2": Family(lambda: hf.Swinv2Model(hf.Swinv2Config(**SWIN, window_size=4)), swin),
    "ConvNeXt": Family(lambda: hf.ConvNextModel(hf.ConvNextConfig(**STAGES)), convnext),
    "ConvNeXt v2": Family(lambda: hf.ConvNextV2Model(hf.ConvNextV2Config(**STAGES)), convnext),
    "TimeSformer": Family(
        lambda: hf.TimesformerModel(hf.TimesformerConfig(**VIDEO)), timesformer, "video"
    ),
    "VideoMAE": Family(lambda: hf.VideoMAEModel(hf.VideoMAEConfig(**VIDEO)), tubes(), "video"),
    "VideoMAE with norm": Family(
        lambda: hf.VideoMAEModel(hf.VideoMAEConfig(**VIDEO, use_mean_pooling=False)),
        tubes("layernorm"),
        "video",
    ),
    "ViViT": Family(
        lambda: hf.VivitModel(hf.VivitConfig(**VIDEO, tubelet_size=[2, 16, 16])),
        tubes("layernorm", special=1),
        "video",
    ),
    "V-JEPA 2": Family(
        lambda: hf.VJEPA2Model(hf.VJEPA2Config(**VJEPA)),
        tubes("encoder.layernorm", name="pixel_values_videos", skip_predictor=True),
        "video",
    ),
    "AST": Family(lambda: hf.ASTModel(hf.ASTConfig(**SIZES, **AST)), ast, "audio"),
    "Whisper": Family(
        lambda: hf.WhisperModel(hf.WhisperConfig(**WHISPER)),
        whisper,
        "audio",
        short_whisper,
        part="encoder",
    ),
    "wav2vec 2.0": Family(
        lambda: hf.Wav2Vec2Model(hf.Wav2Vec2Config(**SIZES, **CONVOLUTIONS)), spoken, "audio"
    ),
    "wav2vec 2.0, norm at the end": Family(
        lambda: hf.Wav2Vec2Model(
            hf.Wav2Vec2Config(**SIZES, **CONVOLUTIONS, do_stable_layer_norm=True)
        ),
        spoken,
        "audio",
    ),
    "HuBERT": Family(
        lambda: hf.HubertModel(hf.HubertConfig(**SIZES, **CONVOLUTIONS)), spoken, "audio"
    ),
    "CLAP": Family(
        lambda: hf.ClapModel(
            hf.ClapConfig(audio_config=CLAP, text_config={**TEXT, "pad_token_id": 1})
        ),
        clap,
        "audio",
        coarse_clap("rand_trunc"),
        part="audio_model",
    ),
    "CLAP with fusion": Family(
        lambda: hf.ClapAudioModel(hf.ClapAudioConfig(**CLAP, enable_fusion=True)),
        clap,
        "audio",
        coarse_clap("fusion"),
    ),
}
"""Family -> its tiny model."""
