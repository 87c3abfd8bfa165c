"""Real images and a real ViT-Ti/16: features equal timm's own pipeline up to float16."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import zarr
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.extract.encoders.encoder_registry import EncoderSettings, make_encoder
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from epalm.tasks.types import MediaItem
from tests.extract.helpers import REAL_PHOTOS, REAL_WEIGHTS

pytestmark = pytest.mark.skipif(
    not (REAL_WEIGHTS.is_file() and REAL_PHOTOS.is_dir()),
    reason=f"needs {REAL_WEIGHTS.name} and Flickr8k photos in ../shared",
)


def independent_tokens(photos: list[Path], preprocessing: str) -> torch.Tensor:
    """Tokens of timm's intermediate layers with torchvision's transforms, (B, 6, 192)."""
    model = timm.create_model("vit_tiny_patch16_224", num_classes=200).eval()
    model.load_state_dict(load_file(REAL_WEIGHTS))
    if preprocessing == "official":
        transform = transforms.Compose(
            [
                transforms.Resize((224, 224), interpolation=InterpolationMode.BICUBIC),
                transforms.ToTensor(),
                transforms.Normalize(timm.data.OPENAI_CLIP_MEAN, timm.data.OPENAI_CLIP_STD),
            ]
        )
    else:
        config = timm.data.resolve_model_data_config(model)
        transform = timm.data.create_transform(**config, is_training=False)
    pixels = torch.stack([transform(Image.open(photo).convert("RGB")) for photo in photos])
    with torch.inference_mode():
        layers = model.get_intermediate_layers(pixels, n=6, return_prefix_tokens=True, norm=True)
    return torch.stack([prefix[:, 0] for _, prefix in layers], dim=1)


@pytest.mark.parametrize("preprocessing", ["official", "native"])
def test_stored_rows_equal_timms_own_pipeline(preprocessing: str, tmp_path: Path) -> None:
    photos = sorted(REAL_PHOTOS.iterdir())[:4]
    encoder = make_encoder(
        "vit-ti16", EncoderSettings(weights=REAL_WEIGHTS, preprocessing=preprocessing)
    )
    spec = StoreSpec(
        dataset="flickr8k",
        encoder=encoder.name,
        fingerprint=encoder.fingerprint(),
        layers=tuple(range(6, 12)),
        width=192,
        count=4,
        shard_rows=64,
    )
    sink = create_store(tmp_path / "a.zarr", spec, [photo.stem for photo in photos])
    items = [MediaItem.from_path(photo, photo.stem) for photo in photos]
    extract(encoder, items, sink, options=RunOptions(batch_size=3, workers=0, quiet=True))
    cls = zarr.open_group(tmp_path / "a.zarr", mode="r")["cls"]
    assert isinstance(cls, zarr.Array)
    expected = independent_tokens(photos, preprocessing).numpy()
    np.testing.assert_allclose(np.asarray(cls[:])[:, 0], expected, rtol=6e-4, atol=2e-5)
