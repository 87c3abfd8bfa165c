"""Settings of audio features: those of the folder, checked against the model."""

import json
from pathlib import Path

import pytest
from transformers import (
    ClapAudioConfig,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperConfig,
)

from epalm.errors import ModelError
from epalm.extract.encoders.presets.audio_processor import (
    clap_preset,
    waveform_preset,
    whisper_preset,
)

WHISPER = WhisperConfig(num_mel_bins=80, max_source_positions=1500)


def write(folder: Path, **settings: object) -> str:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder)


def test_a_folder_without_the_file_gets_the_published_settings(tmp_path: Path) -> None:
    assert whisper_preset(WHISPER, str(tmp_path)).sampling_rate == 16_000
    assert waveform_preset(str(tmp_path))[1] is False
    clap = clap_preset(ClapAudioConfig(), str(tmp_path))
    assert (clap.sampling_rate, clap.seconds, dict(clap.options)["hop_length"]) == (48_000, 10, 480)


def test_settings_are_read_from_the_folder(tmp_path: Path) -> None:
    source = write(tmp_path, sampling_rate=8_000, do_normalize=False, return_attention_mask=True)
    preset, masked = waveform_preset(source)
    assert (preset.sampling_rate, dict(preset.options), masked) == (
        8_000,
        {"do_normalize": False},
        True,
    )


def test_settings_are_read_from_the_file_of_a_processor_of_several_inputs(tmp_path: Path) -> None:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "a": 1, "<unk>": 2, "|": 3}))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    preset, masked = waveform_preset(str(tmp_path))
    assert (dict(preset.options), masked) == ({"do_normalize": False}, True)
    file = tmp_path / "processor_config.json"
    file.write_text(file.read_text().replace("16000", "-1"))
    with pytest.raises(ModelError, match=r"sampling_rate of processor_config\.json is -1,"):
        waveform_preset(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"n_fft": 10**9}, "n_fft of .* is 1000000000, expected a whole number from 16 to 65536"),
        ({"hop_length": "wide"}, "hop_length of .* is 'wide', expected a whole number"),
        ({"chunk_length": 20}, "gives frames 2000, but the model takes 3000"),
        ({"feature_size": 128}, "gives feature_size 128, but the model takes 80"),
    ],
)
def test_an_impossible_value_is_named(
    settings: dict[str, object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=reason):
        whisper_preset(WHISPER, write(tmp_path, **settings))


def test_a_flag_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"do_normalize of .* is 'yes', expected true or false"):
        waveform_preset(write(tmp_path, do_normalize="yes"))
    with pytest.raises(ModelError, match=r"padding of .* is 'none', expected repeatpad"):
        clap_preset(ClapAudioConfig(), write(tmp_path, padding="none"))
