"""The samples of a batch of a dataset library, as what extraction decodes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from epalm.errors import UsageError
from epalm.extract.decoding.decode_batch import (
    DecodeRequest,
    LoadedBatch,
    decode_batch,
    decode_sample,
)
from epalm.extract.decoding.decode_pool import LIMIT_SECONDS
from epalm.extract.decoding.sample_loader import Loader, TwoStageLoader
from epalm.tasks.types import ByteRange, MediaItem, Modality

OFFSET, NBYTES = "offset", "nbytes"
"""Columns with the place of a sample in its file; a negative offset stands for the whole file."""

ORIENTATION = 0x0112
"""EXIF tag of images that are stored rotated."""


class BatchSample(NamedTuple):
    """A sample of a batch.

    Attributes:
        item: key and file of the sample.
        image: the decoded image instead, RGB; None to decode the file.
    """

    item: MediaItem
    image: Image.Image | None = None


@contextmanager
def batch_samples(
    batch: Mapping[str, Any], column: str, keys: Sequence[str], modality: Modality
) -> Iterator[list[BatchSample]]:
    """The samples of a column; encoded bytes are in temporary files until the block ends.

    Args:
        batch: column -> values.
        column: name of the column with paths, bytes, dictionaries of both (`Image(decode=False)`
            and `Audio(decode=False)` of `datasets`), images, or (height, width, 3) uint8 arrays.
        keys: keys of the samples.
        modality: modality of the samples.

    Raises:
        UsageError: a value is none of these.
    """
    offsets = batch.get(OFFSET, [-1] * len(keys))
    sizes = batch.get(NBYTES, [0] * len(keys))
    with TemporaryDirectory(prefix="epalm-batch-") as folder:
        samples = []
        for row, (value, key) in enumerate(zip(batch[column], keys, strict=True)):
            sample = _sample(value, key, modality, Path(folder) / str(row))
            if offsets[row] >= 0:
                part = ByteRange(int(offsets[row]), int(sizes[row]))
                sample = BatchSample(sample.item._replace(part=part))
            samples.append(sample)
        yield samples


def _sample(value: Any, key: str, modality: Modality, file: Path) -> BatchSample:  # noqa: ANN401
    """One sample; `file` is written if the value contains encoded bytes."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str | os.PathLike):
        return BatchSample(MediaItem.from_path(Path(value), key, modality))
    if isinstance(value, bytes | bytearray | memoryview):
        file.write_bytes(value)
        return BatchSample(MediaItem.from_path(file, key, modality))
    if modality == "image" and (image := _decoded(value)):
        return BatchSample(MediaItem.from_path(file, key, modality), image)
    raise UsageError(
        f"the sample {key!r} is {_described(value)}, expected a path, the bytes of a file, or an "
        "RGB image as (height, width, 3) uint8; with `datasets`, cast the column with "
        "Image(decode=False) or Audio(decode=False) to get the bytes"
    )


def _decoded(value: Any) -> Image.Image | None:  # noqa: ANN401
    """An image that decoding would not change; None for another value."""
    if isinstance(value, Image.Image):
        upright = value.getexif().get(ORIENTATION, 1) == 1
        return value if value.mode == "RGB" and upright else None
    array = np.asarray(value) if isinstance(value, list | np.ndarray) else None
    if array is None or array.ndim != 3 or array.shape[2] != 3:
        return None
    whole = array.dtype == np.uint8 or isinstance(value, list)
    return Image.fromarray(array.astype(np.uint8)) if whole else None


def _described(value: Any) -> str:  # noqa: ANN401
    kind = type(value).__name__
    if isinstance(value, Image.Image):
        return f"an image of mode {value.mode}, or stored rotated"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"of type {kind}"


def load_samples(
    samples: Sequence[BatchSample], load: Loader, views: int, *, batch_size: int
) -> Iterator[LoadedBatch]:
    """Decode samples in this process, in batches; a failed one is returned as its reason.

    Raises:
        UsageError: decoded images are given, and the encoder's loader takes only files.
    """
    images = {sample.item.key: sample.image for sample in samples if sample.image}
    if images and not isinstance(load, TwoStageLoader):
        raise UsageError("this encoder decodes files itself: give paths or bytes, not images")

    def load_one(item: MediaItem, view: int) -> Any:  # noqa: ANN401
        image = images.get(item.key)
        if image is None:
            return load(item, view)
        assert isinstance(load, TwoStageLoader)
        return load.transform(image, item, view=view)

    requests = [
        DecodeRequest(row, view, sample.item)
        for row, sample in enumerate(samples)
        for view in range(views)
    ]
    for first in range(0, len(requests), batch_size):
        yield decode_batch(
            requests[first : first + batch_size],
            decode=lambda request: decode_sample(request, load=load_one, seconds=LIMIT_SECONDS),
        )
