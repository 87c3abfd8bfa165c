"""Defaults that `epalm-extract` derives from its options."""

from pathlib import Path
from typing import Any

import pytest

from epalm.extract.planning.extract_inputs import default_out
from epalm.extract.planning.extract_options import ExtractOptions


@pytest.mark.parametrize(
    ("dataset", "options", "name"),
    [
        ("coco", {"encoder": "vit-b16"}, "coco_vitb16.zarr"),
        ("coco", {"encoder": "vit-b16", "store_format": "hdf5"}, "coco_vitb16.h5"),
        (
            "coco",
            {"encoder": "timm:deit3_small_patch16_224", "limit": 100},
            "coco_timmdeit3smallpatch16224_first100.zarr",
        ),
        ("msvd", {"encoder": "timesformer-b"}, "msvd_timesformerb.zarr"),
        (
            "msvd",
            {"encoder": "timesformer-b", "frames": 16, "tokens": "all"},
            "msvd_timesformerb_all_16frames.zarr",
        ),
        ("coco", {"encoder": "hf:facebook/dinov2-base"}, "coco_dinov2base.zarr"),
        ("coco", {"encoder": "hf:/models/my ViT/"}, "coco_myvit.zarr"),
    ],
)
def test_the_default_store_is_named_after_data_set_and_encoder(
    dataset: str, options: dict[str, Any], name: str
) -> None:
    assert default_out(dataset, ExtractOptions(dataset=dataset, **options)) == Path("cache") / name
