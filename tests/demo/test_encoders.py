"""The shipped encoders: each takes what it was pretrained on, and its tokens tell the facts."""

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
"""What extraction takes of 16 frames: the earlier one of the two in the middle of each segment."""


def written_items(show: DemoModality, folder: Path, stream: str, count: int) -> list[MediaItem]:
    (folder / "media").mkdir()
    lines = [
        show.write(f"{stream}/{number}", folder, f"media/{number}").lines[0]
        for number in range(count)
    ]
    return [MediaItem.from_path(folder / line["media"], line["media"]) for line in lines]


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_encoder_gives_six_finite_cls_tokens_that_depend_on_the_medium(
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


def test_photos_prepared_by_extraction_are_those_of_pretraining(tmp_path: Path) -> None:
    encoder = make_encoder(MODALITIES["image"].encoder)
    item = written_items(MODALITIES["image"], tmp_path, "same", 1)[0]
    pixels, _ = scene_batch("same", 0, 1)
    loaded = np.asarray(encoder.load(item, 0)).transpose(1, 2, 0)[None]
    torch.testing.assert_close(normalized(loaded), pixels)


def test_clips_prepared_by_extraction_are_those_of_pretraining(tmp_path: Path) -> None:
    encoder = make_encoder(MODALITIES["video"].encoder)
    item = written_items(MODALITIES["video"], tmp_path, "same", 1)[0]
    loaded = np.asarray(encoder.load(item, 0)).transpose(0, 2, 3, 1)
    assert (loaded == draw_clip(make_clip("same/0"), SHOWN_FRAMES)).all()


def test_recordings_prepared_by_extraction_are_those_of_pretraining(tmp_path: Path) -> None:
    encoder = make_encoder(MODALITIES["audio"].encoder)
    item = written_items(MODALITIES["audio"], tmp_path, "same", 1)[0]
    cells = (torch.as_tensor(encoder.load(item, 0)) + 4.2677393) / (2 * 4.5689974)
    torch.testing.assert_close(cells, spectrogram(make_sound("same/0")), atol=1e-4, rtol=0)


def probed(tokens: Tensor, wanted: Tensor, *, train: int) -> Tensor:
    """The classes that least squares on the first `train` tokens finds for the others."""
    ones = torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1)
    targets = torch.nn.functional.one_hot(wanted).float()
    solution = torch.linalg.lstsq(ones[:train], targets[:train]).solution
    return (ones[train:] @ solution).argmax(dim=1)


def test_the_last_cls_token_of_a_clip_tells_linearly_which_way_the_shape_goes() -> None:
    encoder = make_encoder(MODALITIES["video"].encoder)
    clips = [make_clip(f"probe/{number}") for number in range(170)]
    frames = [draw_clip(clip, SHOWN_FRAMES) for clip in clips]
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 1, 4, 2, 3)
    with torch.inference_mode():
        tokens = last_cls_tokens(encoder.blocks(pixels), encoder.norm)[:, -1]
    wanted = torch.tensor([clip_labels(clip)[0] for clip in clips])
    assert (probed(tokens, wanted, train=120) == wanted[120:]).float().mean() > 0.8


def test_the_last_cls_token_of_a_recording_tells_linearly_what_sounds() -> None:
    encoder = make_encoder(MODALITIES["audio"].encoder)
    banks, wanted = sound_batch("probe", 0, 200)
    with torch.inference_mode():
        blocks = encoder.blocks(banks * 2 * 4.5689974 - 4.2677393)
        tokens = last_cls_tokens(blocks, encoder.norm)[:, -1]
    found = probed(tokens, wanted[:, 0], train=130)
    assert (found == wanted[130:, 0]).float().mean() > 0.8


def test_the_last_cls_token_tells_linearly_which_color_each_shape_has() -> None:
    encoder = make_encoder(MODALITIES["image"].encoder)
    paths = [make_scene(f"probe/{number}") for number in range(600)]
    pixels = torch.stack([torch.from_numpy(np.array(draw_scene(scene))) for scene in paths])
    with torch.inference_mode():
        blocks = encoder.blocks(pixels.permute(0, 3, 1, 2).to(torch.uint8))
        tokens = last_cls_tokens(blocks, encoder.norm)[:, -1]
    wanted = torch.tensor([labels(scene)[0] for scene in paths])
    guesses = probed(tokens, wanted, train=500)
    present = wanted[500:] > 0
    assert (guesses == wanted[500:])[present].float().mean() > 0.8
