"""Small images of samples of any modality, made in a process that can be killed."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from epalm.errors import MediaError
from epalm.extract.decoding.decode_batch import Input
from epalm.media.media_preview import READ_ERRORS
from epalm.media.sample_preview import preview_image
from epalm.tasks.types import MediaItem

SIDE = 160
"""Longest side of a thumbnail, pixels."""


def thumbnail(item: MediaItem, view: int) -> NDArray[np.uint8]:
    """A `Loader`: (height, width, 3); a frame of a video, the spectrogram of an audio clip.

    Raises:
        MediaError: the file cannot be decoded.
    """
    del view
    try:
        image = preview_image(item.path, item.modality, part=item.part, side=SIDE, frames=1)
    except READ_ERRORS as error:
        raise MediaError(f"{item.path.name}: {type(error).__name__}") from error
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image.convert("RGB"))


def png_url(pixels: Input) -> str:
    """A `data:` URL of an image (height, width, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=6)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
