"""Clips against a reader that sees nothing but the frames of the file and the question."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from epalm.demo.demo_dataset import (
    VIDEO_QUESTION_KINDS,
    SplitSizes,
    save_gif,
    write_clip,
    write_dataset,
)
from epalm.demo.worlds.clip_questions import CLIP_QUESTION_KINDS, all_clip_questions, describe_clip
from epalm.demo.worlds.clips import FRAMES, RADII_PIXELS, Clip, draw_clip, make_clip
from epalm.demo.worlds.scenes import COLORS
from epalm.media.video_decode import decode_video
from epalm.tasks.manifest import examples, media
from tools.pretraining.varied_clips import MIN_CONTRAST, make_varied_clip

OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


@dataclass(frozen=True)
class Track:
    """One color through all frames: centers (x, y) and areas of the frames that show it."""

    centers: NDArray[np.float64]
    areas: NDArray[np.int64]

    @property
    def way(self) -> NDArray[np.float64]:
        seen = self.centers[self.areas > 0]
        way: NDArray[np.float64] = seen[-1] - seen[0]
        return way


def tracks(frames: NDArray[np.uint8]) -> dict[str, Track]:
    actual = {}
    for color, rgb in COLORS.items():
        masks = (frames == np.array(rgb)).all(axis=-1)
        if masks.any():
            centers = [
                (np.argwhere(mask).min(0) + np.argwhere(mask).max(0))[::-1] / 2
                if mask.any()
                else (0, 0)
                for mask in masks
            ]
            actual[color] = Track(np.array(centers, dtype=float), masks.sum(axis=(1, 2)))
    return actual


def answers_from_frames(frames: NDArray[np.uint8]) -> dict[str, str]:
    by_way = sorted(tracks(frames).items(), key=lambda pair: np.abs(pair[1].way).max())
    (stayer_color, stayer), (mover_color, mover) = by_way
    across, down = mover.way
    words = ("left", "right") if abs(across) > abs(down) else ("up", "down")
    shown = stayer.areas > 0
    return {
        "direction": words[int(across + down > 0)],
        "speed": "fast" if np.abs(mover.way).max() > 24 else "slow",
        "mover color": mover_color,
        "stayer color": stayer_color,
        "trend": "grow" if stayer.areas[shown][-1] > stayer.areas[shown][0] else "shrink",
        "blinks": str(int((shown[:-1] & ~shown[1:]).sum())),
    }


def test_answers_about_motion_follow_from_the_frames() -> None:
    for number in range(20):
        clip = make_clip(f"test/{number}")
        read = answers_from_frames(draw_clip(clip))
        answers = {question.kind: question.answer for question in all_clip_questions(clip)}
        assert read == {kind: answers[kind] for kind in read}, clip


def test_answers_about_shapes_are_those_of_the_moving_and_the_staying_color() -> None:
    for number in range(20):
        clip = make_clip(f"shapes/{number}")
        assert clip.stayer is not None
        answers = {question.kind: question.answer for question in all_clip_questions(clip)}
        assert (answers["mover"], answers["stayer"]) == (clip.mover.shape, clip.stayer.shape)
        alone = draw_clip(replace(clip, stayer=None))
        masks = (draw_clip(clip) == np.array(clip.mover.rgb)).all(axis=-1)
        assert (masks == (alone == np.array(clip.mover.rgb)).all(axis=-1)).all()


def reversed_clip(clip: Clip) -> Clip:
    assert clip.stayer is not None
    trends = list(RADII_PIXELS)
    return replace(
        clip,
        mover=replace(
            clip.mover,
            start=clip.mover.at(FRAMES - 1),
            direction=OPPOSITE[clip.mover.direction],
        ),
        stayer=replace(
            clip.stayer,
            trend=trends[1 - trends.index(clip.stayer.trend)],
            hidden=tuple(sorted(7 - slot for slot in clip.stayer.hidden)),
        ),
    )


def test_a_reversed_clip_equals_the_clip_with_the_opposite_answers() -> None:
    # So no single frame tells the direction, or whether the other shape grows.
    for number in range(20):
        clip = make_clip(f"backwards/{number}")
        assert (draw_clip(reversed_clip(clip)) == draw_clip(clip)[::-1]).all()


def test_the_gif_shows_every_frame_with_its_exact_colors(tmp_path: Path) -> None:
    for number in range(5):
        clip = make_clip(f"gif/{number}")
        save_gif(clip, tmp_path / "clip.gif")
        decoded = decode_video(tmp_path / "clip.gif", range)
        assert decoded.count == FRAMES
        frames = np.stack([np.asarray(decoded.frames[number]) for number in range(FRAMES)])
        assert (frames == draw_clip(clip)).all()


def test_every_other_frame_shows_every_blink() -> None:
    for number in range(50):
        clip = make_clip(f"blinks/{number}")
        assert clip.stayer is not None
        for first in (0, 1):
            shown = [clip.stayer.at(frame) is not None for frame in range(first, FRAMES, 2)]
            assert shown.count(False) == len(clip.stayer.hidden)


def test_the_clip_of_a_name_is_the_same_as_when_the_weights_were_trained() -> None:
    expected = "slow red star moves right, purple triangle stays and grows and blinks 2 times"
    assert describe_clip(make_clip("fixed")) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("clips")
    sizes = SplitSizes(train=30, val=5, test=5)
    assert write_dataset(where, sizes, write_clip, seed=3) == 40 * len(VIDEO_QUESTION_KINDS)
    return where


def test_the_folder_is_an_ordinary_manifest_of_clips(folder: Path) -> None:
    assert [item.modality for item in media(folder).items] == ["video"] * 40
    assert len(examples("qa", "train", folder)) == 30 * len(VIDEO_QUESTION_KINDS)


def test_questions_without_the_clip_predict_little_about_the_answer() -> None:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for number in range(1500):
        for question in all_clip_questions(make_clip(f"demo-0/train/{number}")):
            answers[question.text][question.answer] += 1
    assert len(answers) == len(CLIP_QUESTION_KINDS)
    right = sum(counter.most_common(1)[0][1] for counter in answers.values())
    # (1/4 + 1/2 + 1/4 + 1/6 + 1/4 + 1/6 + 1/2 + 1/3) / 8 is 0.302.
    assert right / sum(counter.total() for counter in answers.values()) < 0.33


def test_pretraining_clips_have_single_shapes_and_enough_contrast() -> None:
    clips = [make_varied_clip(f"survey/{number}") for number in range(400)]
    lone = sum(clip.stayer is None for clip in clips)
    assert 0.2 < lone / len(clips) < 0.4
    for clip in clips:
        difference = np.abs(np.array(clip.ground) - np.array(clip.mover.rgb)).sum()
        assert difference >= MIN_CONTRAST
