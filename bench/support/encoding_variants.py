"""Images, an encoder, and the variants that `bench.extraction` measures."""

import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from bench.support.timed_rounds import Sample, Stopwatch, Variant
from epalm.cache.create_store import create_store, delete_store
from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.errors import MissingFileError
from epalm.extract.encoders.encoder_registry import (
    Encoder,
    EncoderSettings,
    last_cls_tokens,
    make_encoder,
)
from epalm.extract.encoders.timm_vit import ARCHITECTURES
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from epalm.tasks.types import MediaItem

KEEP = 6
"""Number of blocks whose [CLS] token is stored."""

IMAGE_SIZE = (640, 480)
BLUR_PIXELS = 1.3
JPEG_QUALITY = 90
"""With this blur and quality, a noise image has about 100 kB, as COCO's images do."""


def write_images(folder: Path, number: int) -> list[MediaItem]:
    """Write JPEG files with the size of COCO's, in pixels and in bytes."""
    random = np.random.default_rng(0)
    width, height = IMAGE_SIZE
    items = []
    for place in range(number):
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        file = folder / f"{place:06d}.jpg"
        blurred = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(BLUR_PIXELS))
        blurred.save(file, quality=JPEG_QUALITY)
        items.append(MediaItem.from_path(file, file.name))
    return items


def list_images(folder: Path, number: int) -> list[MediaItem]:
    """The first images of a folder."""
    files = sorted(folder.glob("*.jpg"))[:number]
    if len(files) < number:
        raise MissingFileError(
            f"{folder} has {len(files)} *.jpg files, {number} are needed: lower --number"
        )
    return [MediaItem.from_path(file, file.name) for file in files]


def random_encoder(name: str, folder: Path, precision: str) -> Encoder:
    """An encoder with random weights, loaded as `epalm-extract` loads it."""
    architecture = ARCHITECTURES.get(name, name.removeprefix("timm:"))
    torch.manual_seed(0)
    weights = folder / "weights.safetensors"
    save_file(timm.create_model(architecture, num_classes=0).state_dict(), weights)
    return make_encoder(name, EncoderSettings(weights=weights, precision=precision))


class Bench:
    """An encoder, images in files, and the same images decoded in memory."""

    def __init__(self, encoder: Encoder, items: Sequence[MediaItem], folder: Path) -> None:
        """Decode all images.

        Args:
            encoder: encoder on the CPU.
            items: N images.
            folder: folder for temporary stores.
        """
        self._encoder = encoder
        self._items = items
        self._folder = folder
        self._inputs = torch.from_numpy(np.stack([encoder.load(item, 0) for item in items]))

    def variants(self, batch_size: int, threads: int, workers: Sequence[int]) -> dict[str, Variant]:
        """The bare encoder, and extractions with different numbers of decoding processes."""
        name = f"batch {batch_size}, {threads} threads"
        bare = {f"{name}: bare encoder": self.bare(batch_size, threads)}
        return bare | {
            f"{name}, {crew} workers": self.whole(batch_size, threads, crew) for crew in workers
        }

    def bare(self, batch_size: int, threads: int) -> Variant:
        """The encoder alone, on images in memory."""

        def run(_number: int) -> Sample:
            torch.set_num_threads(threads)
            with Stopwatch() as stopwatch, torch.inference_mode():
                for batch in self._inputs.split(batch_size):
                    last_cls_tokens(self._encoder.blocks(batch), self._encoder.norm, KEEP)
            return stopwatch.sample(len(self._inputs))

        return run

    def whole(self, batch_size: int, threads: int, workers: int) -> Variant:
        """From files to a finished store, which is new each time."""
        options = RunOptions(batch_size, workers, quiet=True)

        def run(_number: int) -> Sample:
            torch.set_num_threads(threads)
            location = self._folder / f"{uuid.uuid4().hex}.zarr"
            store = create_store(location, self._spec(), [item.key for item in self._items])
            with Stopwatch() as stopwatch:
                report = extract(self._encoder, self._items, store, options=options)
            if (report.encoded, report.failed, report.missing) != (len(self._items), 0, 0):
                raise RuntimeError(f"the extraction is incomplete: {report}")
            delete_store(store)
            return stopwatch.sample(len(self._items))

        return run

    def _spec(self) -> StoreSpec:
        encoder, number = self._encoder, len(self._items)
        return StoreSpec(
            dataset="bench",
            encoder=encoder.name,
            fingerprint=encoder.fingerprint(),
            layers=tuple(range(encoder.depth - KEEP, encoder.depth)),
            width=encoder.width,
            count=number,
            shard_rows=fit_shard_rows(number, KEEP * encoder.width * 2),
        )
