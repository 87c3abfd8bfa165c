"""One small image that shows a sample: the image itself, frames of a video, or a spectrogram."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from epalm.media.image_decode import FilePart, decode_image
from epalm.media.media_preview import read_audio_excerpt, sample_frames, spectrogram

FRAMES = 4
"""Default number of frames that show a video."""

GAP = 2
"""Pixels between two frames."""


def preview_image(
    path: Path,
    modality: Literal["image", "video", "audio"],
    *,
    part: FilePart | None = None,
    side: int = 256,
    frames: int = FRAMES,
) -> Image.Image:
    """Show a sample as one image, mode RGB.

    Args:
        path: file of the sample.
        modality: what the file is; a video whose modality is "audio" is shown by its sound track.
        part: the bytes of the file that contain an image; None for the whole file.
        side: maximum pixels of the longer side of an image, or of each frame of a video.
        frames: number of frames that show a video.

    Raises:
        MediaError: an image cannot be decoded.
        One of `epalm.media.media_preview.READ_ERRORS`: a video or an audio clip cannot be read.
    """
    if modality == "audio":
        return spectrogram(read_audio_excerpt(path))
    if modality == "video":
        return frames_in_a_row(sample_frames(path, frames), side)
    image = decode_image(path, part, draft_side=2 * side)
    image.thumbnail((side, side))
    return image


def frames_in_a_row(frames: Sequence[Image.Image], side: int) -> Image.Image:
    """The frames side by side, all as large as the first, with a longer side of `side` pixels."""
    first = frames[0].copy()
    first.thumbnail((side, side))
    width, height = first.size
    row = Image.new("RGB", (len(frames) * (width + GAP) - GAP, height), "white")
    for index, frame in enumerate(frames):
        row.paste(frame.resize((width, height)), (index * (width + GAP), 0))
    return row
