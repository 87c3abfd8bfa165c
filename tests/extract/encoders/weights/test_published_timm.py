"""Published timm weights: as timm loads them, and all of them."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from epalm.errors import ModelError
from epalm.extract.encoders.weights.timm_weights import published_model
from tests.extract.helpers import random_model

SMALL: dict[str, dict[str, Any]] = {
    "test_vit": {},
    "test_convnext": {},
    "swin_tiny_patch4_window7_224": {"embed_dim": 12, "depths": (1, 1, 1, 1)},
    "beit_base_patch16_224": {"embed_dim": 24, "depth": 1, "num_heads": 2},
    "eva02_tiny_patch14_224": {"embed_dim": 24, "depth": 1, "num_heads": 2},
    "hiera_tiny_224": {"embed_dim": 12, "stages": (1, 1, 1, 1)},
    "pvt_v2_b0": {},
    "naflexvit_base_patch16_gap": {"embed_dim": 24, "depth": 1, "num_heads": 2},
    "vit_base_patch16_siglip_gap_224": {"embed_dim": 24, "depth": 1, "num_heads": 2},
}


def random_state(architecture: str, **settings: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """What would be published for an architecture, with its classifier if it has one."""
    model = timm.create_model(architecture, **settings)
    return {
        name: torch.randn_like(tensor) * 0.05 if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }


def published(architecture: str, state: dict[str, Tensor], **settings: Any) -> Any:  # noqa: ANN401
    overlay = {"state_dict": dict(state)}
    return published_model(architecture, pretrained_cfg_overlay=overlay, **settings)


@pytest.mark.parametrize("architecture", SMALL)
def test_the_model_is_the_one_that_timm_makes_without_classifier(architecture: str) -> None:
    settings = SMALL[architecture]
    state = random_state(architecture, **settings)
    found = published(architecture, state, **settings)
    expected = timm.create_model(
        architecture,
        pretrained=True,
        num_classes=0,
        pretrained_cfg_overlay={"state_dict": dict(state)},
        **settings,
    )
    assert repr(found) == repr(expected)
    own = expected.state_dict()
    assert found.state_dict().keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.state_dict().items())


def test_weights_without_final_norm_are_refused() -> None:
    """timm itself leaves the norm as it is initialized, for a model without classifier."""
    name = "convnextv2_atto.fcmae"
    state = {key: tensor for key, tensor in random_state(name).items() if "head." not in key}
    with pytest.raises(ModelError, match=r"head\.norm\.weight.*convnextv2_atto\.fcmae_ft_in1k"):
        published(name, state)


@pytest.mark.parametrize("lost", ["norm.weight", "blocks.5.mlp.fc2.bias", "cls_token"])
def test_any_missing_tensor_is_refused(lost: str) -> None:
    state = dict(random_model("test_vit", num_classes=1000).state_dict())
    del state[lost]
    with pytest.raises(ModelError, match=rf"not those of a whole encoder .*{lost}"):
        published("test_vit", state)
