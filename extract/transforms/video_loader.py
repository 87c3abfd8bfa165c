"""Videos as encoder inputs: choice of frames, and the transform of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from epalm.extract.transforms.image_augment import ONE_VIEW, AugmentedViews, generator_for
from epalm.extract.transforms.image_preset import ImagePreset
from epalm.extract.transforms.image_transform import pixels, test_view
from epalm.extract.transforms.last_item_cache import LastItemCache
from epalm.media.video_decode import VIDEO_POLICY, DecodedVideo, decode_video
from epalm.tasks.types import MediaItem

FRAME_CHOICE = "middle of equal segments, later views random in each, short clips end repeated"
"""The choice of frames in one line, for the fingerprint of a store."""


def segments(count: int, frames: int) -> list[range]:
    """Split `count` frames into `frames` equal segments, or into `count` if there are fewer.

    The bounds are rounded down, as in the published code.
    """
    bounds = np.linspace(0, count, min(frames, count) + 1).astype(int).tolist()
    return [range(start, stop) for start, stop in pairwise(bounds)]


def middle_frames(count: int, frames: int) -> list[int]:
    """The middle frame of each segment, the earlier one of two; short videos repeat the last.

    The published code draws random frames in tests too; it contains this choice but never uses it.
    """
    return _filled([(part[0] + part[-1]) // 2 for part in segments(count, frames)], frames)


def drawn_frames(count: int, frames: int, generator: np.random.Generator) -> list[int]:
    """A random frame of each segment; short videos repeat the last.

    The published code never draws the last frame of a segment.
    """
    drawn = [int(generator.integers(part.start, part.stop)) for part in segments(count, frames)]
    return _filled(drawn, frames)


def _filled(chosen: list[int], frames: int) -> list[int]:
    return chosen + chosen[-1:] * (frames - len(chosen))


@dataclass(frozen=True)
class VideoLoader:
    """Decodes the frames of a video that its views need, and makes one view of them.

    The views of a video are requested one after the other. The last video is cached, so that it is
    decoded once for all views.

    Attributes:
        preset: transform of each frame.
        frames: number of frames per view, T.
        views: number and augmentation of views; frames of a view share crop, flip and operations.
    """

    preset: ImagePreset
    frames: int
    views: AugmentedViews = ONE_VIEW
    _last: LastItemCache[DecodedVideo] = field(
        default_factory=LastItemCache, compare=False, repr=False
    )

    def __call__(self, item: MediaItem, view: int) -> NDArray[np.uint8]:
        """(T, 3, size, size) uint8; see `decode` and `transform`."""
        return self.transform(self._last.get(item, self.decode), item, view=view)

    def fingerprint(self) -> dict[str, str]:
        """Every setting of decoding, preprocessing and augmentation, as text."""
        return {
            "media": "video",
            "decode": VIDEO_POLICY,
            "frames": str(self.frames),
            "frame_choice": FRAME_CHOICE,
            **self.preset.fingerprint(),
            **self.views.fingerprint(),
        }

    def decode(self, item: MediaItem) -> DecodedVideo:
        """Decode the frames of every view.

        Raises:
            MediaError: the video cannot be decoded.
        """

        def choose(count: int) -> set[int]:
            views = range(self.views.count)
            return {frame for view in views for frame in self._choice(count, item.key, view)}

        return decode_video(item.path, choose)

    def transform(self, video: DecodedVideo, item: MediaItem, *, view: int) -> NDArray[np.uint8]:
        """Make a view, (T, 3, size, size) uint8; the encoder normalizes it on its device.

        Raises:
            MediaError: the frames are too long and thin to resize.
            ValueError: there is no such view.
        """
        self.views.check(view)
        chosen = [video.frames[number] for number in self._choice(video.count, item.key, view)]
        return np.stack([pixels(frame) for frame in self._view(chosen, item, view)])

    def _view(
        self, frames: Sequence[Image.Image], item: MediaItem, view: int
    ) -> Sequence[Image.Image]:
        if view == 0:
            return [test_view(frame, self.preset, name=item.path.name) for frame in frames]
        return self.views.draw(frames, item.key, view=view, size=self.preset.size)

    def _choice(self, count: int, key: str, view: int) -> list[int]:
        if view == 0:
            return middle_frames(count, self.frames)
        # A separate generator: the number of frames must not change crop, flip and operations.
        generator = generator_for(self.views.seed, f"frames\0{key}", view)
        return drawn_frames(count, self.frames, generator)
