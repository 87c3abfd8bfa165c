"""Audio clips as inputs of Hugging Face models: AST, Whisper, wav2vec 2.0, HuBERT, CLAP."""

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.extract.encoders.frame_pooling import refuse_video_settings
from epalm.extract.encoders.inputs.model_input import ModelInput
from epalm.extract.encoders.presets.audio_processor import (
    clap_preset,
    waveform_preset,
    whisper_preset,
)
from epalm.extract.encoders.presets.hf_presets import audio_preset
from epalm.extract.encoders.tokens.block_tokens import FREQUENCY, PATCH, TIME, Axis
from epalm.extract.transforms.filter_bank import FilterBankLoader
from epalm.extract.transforms.waveform_features import WaveformLoader, WaveformPreset
from epalm.tasks.types import Modality


def filter_bank_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """AST: audio clips, or the audio tracks of videos. [CLS] is the first of two class tokens."""
    del name
    refuse_video_settings(settings)
    preset = audio_preset(model.config, source, settings.preprocessing)
    mean, std = preset.mean, preset.std

    def arguments(batch: Tensor) -> dict[str, Tensor]:
        return {"input_values": (batch.to(model.device) - mean) / (2 * std)}

    config = model.config
    bins = (preset.mel_bins - config.patch_size) // config.frequency_stride + 1
    load = FilterBankLoader(preset, settings.views)
    example = torch.zeros(preset.frames, preset.mel_bins)
    axes = partial(_frequency_first, bins)
    return ModelInput(_modality(settings), load, arguments, example, axes=axes)


def _frequency_first(bins: int, patches: int) -> tuple[Axis, ...]:
    return Axis(FREQUENCY, bins), Axis(TIME, patches // bins)


def _over_time(patches: int) -> tuple[Axis, ...]:
    return (Axis(TIME, patches),)


def log_mel_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """Whisper's encoder: log mel spectrograms of 30 seconds, padded with silence."""
    del name
    refuse_video_settings(settings)
    preset = whisper_preset(model.config, source)
    frames = 2 * model.config.max_source_positions
    example = torch.zeros(model.config.num_mel_bins, frames)
    return _spectrogram_input(model, preset, example, settings=settings, axes=_over_time)


def waveform_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """wav2vec 2.0 and HuBERT: waveforms of ten seconds, with zeros after a shorter clip."""
    del name
    refuse_video_settings(settings)
    preset, masked = waveform_preset(source)

    def arguments(batch: Tensor) -> dict[str, Tensor]:
        values = batch.to(model.device)
        return (
            {"input_values": values, "attention_mask": present(values)}
            if masked
            else {"input_values": values}
        )

    load = WaveformLoader(preset, settings.views)
    example = torch.zeros(round(preset.seconds * preset.sampling_rate))
    return ModelInput(_modality(settings), load, arguments, example, axes=_over_time)


def present(waves: Tensor) -> Tensor:
    """(B, n) int64 mask of the samples up to the last one that is not zero."""
    return (waves.flip(1).abs().cumsum(1) > 0).flip(1).long()


def clap_input(
    name: str, model: PreTrainedModel, source: str, settings: EncoderSettings
) -> ModelInput:
    """CLAP's audio tower: mel spectrograms of ten seconds, four equal ones with fusion.

    The model folds time into the rows of a square image, so that its patches have a coarse time, a
    frequency and a fine time.
    """
    del name
    refuse_video_settings(settings)
    config = model.config
    preset = clap_preset(config, source)
    frames = round(preset.seconds * preset.sampling_rate) // dict(preset.options)["hop_length"] + 1
    example = torch.zeros(4 if config.enable_fusion else 1, frames, config.num_mel_bins)
    axes = partial(_folded_time, config.spec_size // config.num_mel_bins)
    return _spectrogram_input(model, preset, example, settings=settings, axes=axes)


def _folded_time(ratio: int, patches: int) -> tuple[Axis, ...]:
    side = isqrt(patches)
    if side * side != patches or side % ratio:
        return (Axis(PATCH, patches),)
    return Axis(TIME, ratio), Axis(FREQUENCY, side // ratio), Axis(TIME, side)


def _spectrogram_input(
    model: PreTrainedModel,
    preset: WaveformPreset,
    example: Tensor,
    *,
    settings: EncoderSettings,
    axes: Callable[[int], tuple[Axis, ...]],
) -> ModelInput:
    fused = getattr(model.config, "enable_fusion", False)

    def arguments(batch: Tensor) -> dict[str, Any]:
        features = batch.to(model.device)
        shorter = torch.zeros(len(batch), 1, dtype=torch.bool, device=features.device)
        return {"input_features": features} | ({"is_longer": shorter} if fused else {})

    load = WaveformLoader(preset, settings.views)
    return ModelInput(_modality(settings), load, arguments, example, axes=axes)


def _modality(settings: EncoderSettings) -> Modality:
    """The modality of the files: videos are taken for their audio tracks."""
    return "video" if settings.media == "video" else "audio"
