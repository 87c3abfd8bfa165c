"""The encoders of the demo: preprocessing as in pretraining, and tokens that predict the facts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from epalm.demo.modalities import MODALITIES, DemoModality
from epalm.demo.worlds.clips import FRAMES, SLOT_FRAMES, draw_clip, make_clip
from epalm.demo.worlds.scenes import draw_scene, make_scene
from epalm.demo.worlds.sounds import make_sound
from epalm.extract.encoders.encoder_registry import last_cls_tokens, make_encoder
from epalm.tasks.types import MediaItem, Modality
from tools.pretraining.pretrain_ast import sound_batch, spectrogram
from tools.pretraining.pretrain_timesformer import labels as clip_labels
from tools.pretraining.pretrain_timesformer import normalized
from tools.pretraining.pretrain_vit import labels, scene_batch

SHOWN_FRAMES = tuple(range(0, FRAMES, SLOT_FRAMES))
"""Frames that extraction samples from 16: the earlier of the two in the middle of each segment."""


def written_items(show: DemoModality, folder: Path, stream: str, count: int) -> list[MediaItem]:
    (folder / "media").mkdir()
    lines = [
        show.write(f"{stream}/{number}", folder, f"media/{number}").lines[0]
        for number in range(count)
    ]
    return [MediaItem.from_path(folder / line["media"], line["media"]) for line in lines]


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_encoder_gives_six_finite_cls_tokens_that_depend_on_the_sample(
    modality: Modality, tmp_path: Path
) -> None:
    show = MODALITIES[modality]
    encoder = make_encoder(show.encoder)
    assert encoder.modality == modality
    items = written_items(show, tmp_path, "medium", 2)
    with torch.inference_mode():
        batch = torch.stack([torch.as_tensor(encoder.load(item, 0)) for item in items])
        tokens = last_cls_tokens(encoder.blocks(batch), encoder.norm)
    assert tokens.shape == (2, 6, encoder.width)
    assert torch.isfinite(tokens).all()
    assert ((tokens[0] - tokens[1]).norm(dim=1) / tokens[0].norm(dim=1) > 0.1).all()


def test_extraction_preprocesses_images_as_pretraining_does(tmp_path: Path) -> None:
    encoder = make_encoder(MODALITIES["image"].encoder)
    item = written_items(MODALITIES["image"], tmp_path, "same", 1)[0]
    pixels, _ = scene_batch("same", 0, 1)
    loaded = np.asarray(encoder.load(item, 0)).transpose(1, 2, 0)[None]
    torch.testing.assert_close(normalized(loaded), pixels)


def test_extraction_preprocesses_videos_as_pretraining_does(tmp_path: Path) -> None:
    encoder = make_encoder(MODALITIES["video"].encoder)
    item = written_items(MODALITIES["video"], tmp_path, "same", 1)[0]
    loaded = np.asarray(encoder.load(item, 0)).transpose(0, 2, 3, 1)
    assert (loaded == draw_clip(make_clip("same/0"), SHOWN_FRAMES)).all()


def test_extraction_preprocesses_audio_clips_as_pretraining_does(tmp_path: Path) -> None:
    encoder = make_encoder(MODALITIES["audio"].encoder)
    item = written_items(MODALITIES["audio"], tmp_path, "same", 1)[0]
    cells = (torch.as_tensor(encoder.load(item, 0)) + 4.2677393) / (2 * 4.5689974)
    torch.testing.assert_close(cells, spectrogram(make_sound("same/0")), atol=1e-4, rtol=0)


def linear_probe(tokens: Tensor, targets: Tensor, *, train: int) -> Tensor:
    """Classes predicted by least squares, fitted on the first `train` tokens, for the others."""
    ones = torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1)
    one_hot = torch.nn.functional.one_hot(targets).float()
    solution = torch.linalg.lstsq(ones[:train], one_hot[:train]).solution
    return (ones[train:] @ solution).argmax(dim=1)


def test_a_linear_probe_predicts_the_direction_from_the_last_cls_token_of_a_video() -> None:
    encoder = make_encoder(MODALITIES["video"].encoder)
    clips = [make_clip(f"probe/{number}") for number in range(170)]
    frames = [draw_clip(clip, SHOWN_FRAMES) for clip in clips]
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 1, 4, 2, 3)
    with torch.inference_mode():
        tokens = last_cls_tokens(encoder.blocks(pixels), encoder.norm)[:, -1]
    targets = torch.tensor([clip_labels(clip)[0] for clip in clips])
    assert (linear_probe(tokens, targets, train=120) == targets[120:]).float().mean() > 0.8


def test_a_linear_probe_predicts_the_kind_of_sound_from_the_last_cls_token() -> None:
    encoder = make_encoder(MODALITIES["audio"].encoder)
    banks, targets = sound_batch("probe", 0, 200)
    with torch.inference_mode():
        blocks = encoder.blocks(banks * 2 * 4.5689974 - 4.2677393)
        tokens = last_cls_tokens(blocks, encoder.norm)[:, -1]
    predictions = linear_probe(tokens, targets[:, 0], train=130)
    assert (predictions == targets[130:, 0]).float().mean() > 0.8


def test_a_linear_probe_predicts_the_color_of_shapes_from_the_last_cls_token() -> None:
    encoder = make_encoder(MODALITIES["image"].encoder)
    paths = [make_scene(f"probe/{number}") for number in range(600)]
    pixels = torch.stack([torch.from_numpy(np.array(draw_scene(scene))) for scene in paths])
    with torch.inference_mode():
        blocks = encoder.blocks(pixels.permute(0, 3, 1, 2).to(torch.uint8))
        tokens = last_cls_tokens(blocks, encoder.norm)[:, -1]
    targets = torch.tensor([labels(scene)[0] for scene in paths])
    predictions = linear_probe(tokens, targets, train=500)
    present = targets[500:] > 0
    assert (predictions == targets[500:])[present].float().mean() > 0.8
