"""The choice of frames of each view, and the transform that frames of a view share."""

from pathlib import Path

import numpy as np
import pytest

from epalm.extract.transforms import video_loader
from epalm.extract.transforms.image_augment import AugmentedViews, generator_for
from epalm.extract.transforms.image_preset import official_preset
from epalm.extract.transforms.video_loader import VideoLoader, drawn_frames, middle_frames, segments
from epalm.media.video_decode import decode_video
from epalm.tasks.manifest import MODALITIES
from epalm.tasks.types import MediaItem
from tests.extract.helpers import SHARED
from tests.media.file_writers.av_files import random_frames, write_media

REAL_CLIPS = [SHARED / "data/msvd_clips", SHARED / "data/audiocaps_clips"]


def item(path: Path) -> MediaItem:
    return MediaItem.from_path(path, path.stem, "video")


def test_segments_are_equal_and_their_middles_are_worked_by_hand() -> None:
    assert [(part.start, part.stop) for part in segments(10, 4)] == [
        (0, 2),
        (2, 5),
        (5, 7),
        (7, 10),
    ]
    assert middle_frames(10, 4) == [0, 3, 5, 8]
    assert middle_frames(80, 8) == [4, 14, 24, 34, 44, 54, 64, 74]
    assert middle_frames(10, 5) == [0, 2, 4, 6, 8]
    assert middle_frames(1, 3) == [0, 0, 0]
    assert middle_frames(3, 5) == [0, 1, 2, 2, 2]


def test_drawn_frames_lie_one_in_each_segment_and_reach_all_of_it() -> None:
    draws = np.array([drawn_frames(10, 4, generator_for(0, str(key), 1)) for key in range(300)])
    for column, part in zip(draws.T, segments(10, 4), strict=True):
        assert set(column.tolist()) == set(part)
    assert drawn_frames(2, 4, generator_for(0, "a", 1)) == [0, 1, 1, 1]


def test_a_view_does_not_depend_on_their_number_and_a_video_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / "a.mkv", frames=random_frames(30))
    few, many = (VideoLoader(official_preset(32), 4, AugmentedViews(count, 3)) for count in (2, 5))
    decoded = []
    monkeypatch.setattr(
        video_loader, "decode_video", lambda *args: decoded.append(args) or decode_video(*args)
    )
    assert all((few(item(path), view) == many(item(path), view)).all() for view in range(2))
    assert len({many(item(path), view).tobytes() for view in range(5)}) == 5
    assert len(decoded) == 2
    with pytest.raises(ValueError, match=r"there is no view 5, only views 0\.\.4"):
        many(item(path), 5)


def test_the_frames_of_a_view_share_crop_flip_and_operations(tmp_path: Path) -> None:
    still = np.repeat(random_frames(1), 8, axis=0)
    path = write_media(tmp_path / "a.mkv", frames=still)
    load = VideoLoader(official_preset(32), 4, AugmentedViews(6, 3))
    for view in range(6):
        frames = load(item(path), view)
        assert all((frame == frames[0]).all() for frame in frames)
    assert not (load(item(path), 1) == load(item(path), 0)).all()


@pytest.mark.skipif(not REAL_CLIPS[0].is_dir(), reason="needs real clips in ../shared/data")
def test_every_real_video_gives_frames_that_move() -> None:
    endings = MODALITIES["video"]
    paths = [path for folder in REAL_CLIPS for path in folder.iterdir() if path.suffix in endings]
    assert len(paths) >= 15
    load = VideoLoader(official_preset(64), 8)
    for path in paths:
        frames = load(item(path), 0)
        assert frames.shape == (8, 3, 64, 64)
        assert np.abs(frames[0].astype(float) - frames[-1]).mean() > 1, path.name
