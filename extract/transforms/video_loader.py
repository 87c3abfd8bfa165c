"""From a clip's file to the pixels an encoder takes: which frames, and what becomes of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from epalm.extract.transforms.image_augment import ONE_VIEW, AugmentedViews, generator_for
from epalm.extract.transforms.image_transform import ImagePreset, pixels, test_view
from epalm.extract.transforms.last_item_cache import LastItemCache
from epalm.media.video_decode import VIDEO_POLICY, DecodedVideo, decode_video
from epalm.tasks.types import MediaItem

FRAME_CHOICE = "middle of equal segments, later views random in each, short clips end repeated"
"""The rules below in one line, for the fingerprint of a store."""


def segments(count: int, frames: int) -> list[range]:
    """`count` frames in order, cut into as many equal segments as are wanted and can be had.

    The bounds are rounded down, as by the published code.
    """
    bounds = np.linspace(0, count, min(frames, count) + 1).astype(int).tolist()
    return [range(start, stop) for start, stop in pairwise(bounds)]


def middle_frames(count: int, frames: int) -> list[int]:
    """The middle frame of each segment, the earlier one of two; the last is repeated if need be.

    The published code draws frames at random in tests too; it has this choice but never takes it.
    """
    return _filled([(part[0] + part[-1]) // 2 for part in segments(count, frames)], frames)


def drawn_frames(count: int, frames: int, generator: np.random.Generator) -> list[int]:
    """One frame of each segment by chance; the last is repeated if need be.

    The published code never draws the last frame of a segment.
    """
    drawn = [int(generator.integers(part.start, part.stop)) for part in segments(count, frames)]
    return _filled(drawn, frames)


def _filled(chosen: list[int], frames: int) -> list[int]:
    return chosen + chosen[-1:] * (frames - len(chosen))


@dataclass(frozen=True)
class ClipLoader:
    """Decodes the frames of one clip that its views need, and makes one view of them.

    The views of a clip are asked for one after the other, so the last clip is kept: it is decoded
    once for all of them.

    Attributes:
        preset: what becomes of each frame.
        frames: of each view, T.
        views: how all but the first are drawn; the frames of one share crop, flip and operations.
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
        """All that decides what becomes of a clip."""
        return {
            "media": "video",
            "decode": VIDEO_POLICY,
            "frames": str(self.frames),
            "frame_choice": FRAME_CHOICE,
            **self.preset.fingerprint(),
            **self.views.fingerprint(),
        }

    def decode(self, item: MediaItem) -> DecodedVideo:
        """The frames of every view.

        Raises:
            MediaError: the clip cannot be decoded.
        """

        def choose(count: int) -> set[int]:
            every = range(self.views.count)
            return {frame for view in every for frame in self._choice(count, item.key, view)}

        return decode_video(item.path, choose)

    def transform(self, clip: DecodedVideo, item: MediaItem, *, view: int) -> NDArray[np.uint8]:
        """(T, 3, size, size) uint8; normalisation follows on the encoder's device.

        Raises:
            MediaError: the frames are too long and thin to resize.
            ValueError: a view that was not planned.
        """
        self.views.check(view)
        chosen = [clip.frames[number] for number in self._choice(clip.count, item.key, view)]
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
        # Draws of their own: how many frames there are must not change crop, flip and operations.
        generator = generator_for(self.views.seed, f"frames\0{key}", view)
        return drawn_frames(count, self.frames, generator)
