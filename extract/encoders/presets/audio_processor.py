"""The feature extractors of Whisper, wav2vec 2.0, HuBERT and CLAP, from preprocessor_config.json.

A folder without the file gets the defaults of transformers, those of the published models.
"""

from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from epalm.errors import ModelError
from epalm.extract.encoders.presets.processor_config import (
    audio_preprocessor,
    file_label,
    local_file,
)
from epalm.extract.transforms.waveform_features import WaveformPreset
from epalm.untrusted.quoted_values import shown

WAVE_SECONDS = 10.0
"""Window of wav2vec 2.0 and HuBERT, which have no own; CLAP's is as long."""

RANGES = {
    "sampling_rate": (1_000, 192_000),
    "chunk_length": (1, 120),
    "max_length_s": (1, 120),
    "feature_size": (1, 1024),
    "n_fft": (16, 1 << 16),
    "fft_window_size": (16, 1 << 16),
    "hop_length": (1, 1 << 16),
    "frequency_min": (0, 96_000),
    "frequency_max": (1, 96_000),
}
"""Smallest and largest accepted value of each number."""


def whisper_preset(config: PreTrainedConfig, source: str) -> WaveformPreset:
    """Log mel spectrograms as Whisper's feature extractor makes them.

    Raises:
        ModelError: a value is impossible, or does not fit the model.
    """
    values = {"sampling_rate": 16_000, "chunk_length": 30, "n_fft": 400, "hop_length": 160}
    read = _numbers(source, values | {"feature_size": config.num_mel_bins})
    frames = read["chunk_length"] * read["sampling_rate"] // read["hop_length"]
    _require(source, "frames", frames, 2 * config.max_source_positions)
    _require(source, "feature_size", read["feature_size"], config.num_mel_bins)
    options = tuple((name, read[name]) for name in ("feature_size", "n_fft", "hop_length"))
    return WaveformPreset("whisper log mel", read["sampling_rate"], read["chunk_length"], options)


def waveform_preset(source: str) -> tuple[WaveformPreset, bool]:
    """Waveforms for wav2vec 2.0 and HuBERT, and whether the model gets a mask of the zeros after.

    Raises:
        ModelError: a value is impossible.
    """
    read = _numbers(source, {"sampling_rate": 16_000})
    flags = _flags(source, {"do_normalize": True, "return_attention_mask": False})
    options = (("do_normalize", flags["do_normalize"]),)
    preset = WaveformPreset("waveform", read["sampling_rate"], WAVE_SECONDS, options)
    return preset, flags["return_attention_mask"]


def clap_preset(config: PreTrainedConfig, source: str) -> WaveformPreset:
    """Mel spectrograms as CLAP's feature extractor makes them.

    Raises:
        ModelError: a value is impossible, or does not fit the model.
    """
    defaults = {"sampling_rate": 48_000, "max_length_s": 10, "feature_size": config.num_mel_bins}
    stft = {"fft_window_size": 1024, "hop_length": 480, "frequency_min": 0, "frequency_max": 14_000}
    read = _numbers(source, defaults | stft)
    _require(source, "feature_size", read["feature_size"], config.num_mel_bins)
    settings = _settings(source)
    padding = settings.get("padding", "repeatpad")
    if padding not in ("repeatpad", "repeat", "pad"):
        raise ModelError(
            f"{source}: padding of {file_label(source)} is {shown(padding)}, expected repeatpad"
        )
    options = tuple((name, read[name]) for name in ("feature_size", *stft))
    truncation = "fusion" if config.enable_fusion else "rand_trunc"
    extra = (("padding", padding), ("truncation", truncation))
    return WaveformPreset("clap mel", read["sampling_rate"], read["max_length_s"], options + extra)


def _settings(source: str) -> dict[str, Any]:
    without = Path(source).is_dir() and not local_file(source)
    return {} if without else audio_preprocessor(source)


def _numbers(source: str, defaults: dict[str, int]) -> dict[str, int]:
    settings = _settings(source)
    read = {name: settings.get(name, default) for name, default in defaults.items()}
    for name, value in read.items():
        low, high = RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ModelError(
                f"{source}: {name} of {file_label(source)} is {shown(value)}, expected a whole "
                f"number from {low} to {high}: correct the file"
            )
    return read


def _flags(source: str, defaults: dict[str, bool]) -> dict[str, bool]:
    settings = _settings(source)
    read = {name: settings.get(name, default) for name, default in defaults.items()}
    for name, value in read.items():
        if not isinstance(value, bool):
            raise ModelError(
                f"{source}: {name} of {file_label(source)} is {shown(value)}, expected true or "
                "false: correct it"
            )
    return read


def _require(source: str, name: str, value: int, wanted: int) -> None:
    if value != wanted:
        raise ModelError(
            f"{source}: {file_label(source)} gives {name} {value}, but the model takes {wanted}: "
            "download the files again, or correct them"
        )
