"""Checkpoint files as the world has them: nested, prefixed, with heads, of another grid."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from epalm.errors import ModelError
from epalm.extract.encoders.encoder_registry import EncoderSettings, make_encoder
from epalm.extract.encoders.weights.timm_weights import load_weights, local_model
from tests.extract.helpers import TINY

VIT, CONVNEXT = "test_vit", "test_convnext"

State = dict[str, Tensor]


def weights_of(architecture: str = VIT, seed: int = 0, **settings: object) -> State:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(architecture, **{"num_classes": 0} | settings)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.05)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def loaded(content: object, tmp_path: Path, architecture: str = VIT) -> State:
    """The tensors of a model after it was loaded from a file with this content."""
    torch.save(content, tmp_path / "w.pth")
    return dict(local_model(architecture, tmp_path / "w.pth").state_dict())


def same(found: State, expected: State) -> bool:
    return all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


OWN, OTHER = weights_of(seed=1), weights_of(seed=2)

DINO_HEAD = {"mlp.0.weight": torch.ones(2, 2), "last_layer.weight_g": torch.ones(1)}

MAE_DECODER = {
    "mask_token": torch.ones(1, 1, 4),
    "decoder_pos_embed": torch.ones(1, 5, 4),
    "decoder_blocks.0.norm1.weight": torch.ones(4),
    "decoder_pred.bias": torch.ones(4),
}

FILES: dict[str, Callable[[], object]] = {
    "plain": lambda: OWN,
    "DistributedDataParallel": lambda: prefixed(OWN, "module."),
    "torch.compile of it": lambda: prefixed(OWN, "_orig_mod.module."),
    "Lightning": lambda: {"state_dict": prefixed(OWN, "model."), "epoch": 3, "lr_schedulers": []},
    "a backbone with a head": lambda: (
        prefixed(OWN, "backbone.") | {"cls_head.fc.weight": OWN["norm.bias"]}
    ),
    "a name of one's own": lambda: prefixed(OWN, "net.my_eyes."),
    "vit.": lambda: prefixed(OWN, "vit."),
    "encoder.": lambda: prefixed(OWN, "encoder."),
    "OpenCLIP": lambda: (
        prefixed(OWN, "visual.trunk.")
        | {"logit_scale": torch.ones(()), "text.ln_final.weight": torch.ones(3)}
        | {"visual.head.proj.weight": torch.ones(3, 64)}
    ),
    "timm with EMA": lambda: {"state_dict": OTHER, "state_dict_ema": OWN, "arch": "test_vit"},
    "EMA of Lightning": lambda: {
        "state_dict": prefixed(OTHER, "model.") | prefixed(OWN, "ema_model.")
    },
    "DINO": lambda: {
        "student": prefixed(OTHER, "module.backbone.") | prefixed(DINO_HEAD, "module.head."),
        "teacher": prefixed(OWN, "backbone.") | prefixed(DINO_HEAD, "head."),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]},
        "args": argparse.Namespace(arch="vit_tiny", lr=0.1),
        "best": np.float64(0.5),
    },
    "I-JEPA": lambda: {
        "encoder": prefixed(OTHER, "module."),
        "predictor": {"module.predictor_embed.weight": torch.ones(2, 2)},
        "target_encoder": prefixed(OWN, "module."),
    },
    "MAE": lambda: {"model": OWN | MAE_DECODER},
    "a classifier": lambda: OWN | {"fc.weight": torch.ones(2, 64), "head.bias": torch.ones(2)},
}
"""Kind -> content of a file that contains OWN once, whatever else it contains."""


@pytest.mark.parametrize("kind", FILES)
def test_a_checkpoint_gives_its_encoder_whatever_is_around_it(kind: str, tmp_path: Path) -> None:
    assert same(loaded(FILES[kind](), tmp_path), OWN)


def test_what_was_not_used_is_listed_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        loaded(FILES["DINO"](), tmp_path)
    assert "weights: teacher.backbone.* of w.pth" in caplog.messages
    (line,) = [message for message in caplog.messages if message.startswith("not used")]
    assert line == f"not used of w.pth: student ({len(OTHER) + 2}), teacher (2)"


def test_nothing_is_reported_as_unused_if_everything_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        loaded(OWN, tmp_path)
    assert not [message for message in caplog.messages if message.startswith("not used")]


def without(name: str) -> State:
    return {key: tensor for key, tensor in OWN.items() if key != name}


REFUSED: dict[str, tuple[object, str]] = {
    "a tensor is missing": (without("norm.bias"), r": missing norm\.bias: choose"),
    "a tensor of no head": (
        OWN | {"surplus": torch.ones(1)},
        ": unexpected surplus: choose",
    ),
    "more blocks": (
        OWN | {"blocks.6.norm1.weight": torch.ones(64), "blocks.6.norm.weight": torch.ones(64)},
        r"unexpected blocks\.6\.norm1\.weight, blocks\.6\.norm\.weight",
    ),
    "a distilled DeiT": (
        OWN | {"dist_token": torch.ones(1, 1, 64), "pos_embed": torch.ones(1, 102, 64)},
        r"unexpected dist_token; pos_embed has the shape \(1, 102, 64\), expected \(1, 101, 64\)",
    ),
    "a norm before the blocks": (
        OWN | {"norm_pre.weight": torch.ones(64)},
        r"unexpected norm_pre\.weight",
    ),
    "patches of another size": (
        OWN | {"patch_embed.proj.weight": torch.ones(64, 3, 32, 32)},
        r"patch_embed\.proj\.weight has the shape \(64, 3, 32, 32\), expected \(64, 3, 16, 16\)",
    ),
    "a model of transformers": (
        {"vit.encoder.layer.0.attention.attention.query.weight": torch.ones(2, 2)},
        "names are those of a transformers model.*config.json into a folder.*--encoder hf:FOLDER",
    ),
    "no encoder at all": (
        {"lstm.weight_ih_l0": torch.ones(2)},
        r"has none of the weights of this model, but lstm\.weight_ih_l0",
    ),
}
"""Kind -> content of a file, part of the message."""


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line_with_names(kind: str, tmp_path: Path) -> None:
    content, reason = REFUSED[kind]
    with pytest.raises(ModelError, match=reason) as caught:
        loaded(content, tmp_path)
    assert "w.pth does not fit timm test_vit: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_larger_model_of_the_same_kind_is_refused_with_both_shapes(tmp_path: Path) -> None:
    state = weights_of("vit_tiny_patch16_224")
    wide = {name: tensor.repeat(*(2 for _ in tensor.shape)) for name, tensor in state.items()}
    wide["patch_embed.proj.weight"] = torch.ones(384, 3, 16, 16)
    wide["pos_embed"] = torch.ones(1, 197, 384)
    wide["cls_token"] = torch.ones(1, 1, 384)
    with pytest.raises(ModelError) as caught:
        loaded(wide, tmp_path, "vit_tiny_patch16_224")
    assert str(caught.value).endswith(
        "cls_token has the shape (1, 1, 384), expected (1, 1, 192) (and 149 more): choose the "
        "architecture of these weights with --encoder timm:<name>"
    )


def test_positions_of_another_grid_are_interpolated_as_timm_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    smaller = weights_of(img_size=96)
    with caplog.at_level(logging.INFO):
        found = loaded({"model": smaller}, tmp_path)
    stock = timm.create_model(
        VIT, pretrained=True, num_classes=0, pretrained_cfg_overlay={"state_dict": dict(smaller)}
    )
    assert same(found, stock.state_dict())
    assert found["pos_embed"].shape == (1, 101, 64)
    assert "position embeddings interpolated: pos_embed from 6 x 6 to 10 x 10" in caplog.messages


def test_a_convnext_keeps_the_norm_in_its_head(tmp_path: Path) -> None:
    """It is part of the module `head`, whose classifier is not used."""
    own = weights_of(CONVNEXT, num_classes=5)
    assert {"head.norm.weight", "head.fc.weight"} <= own.keys()
    assert same(loaded(own, tmp_path, CONVNEXT), own)
    del own["head.norm.weight"]
    with pytest.raises(ModelError, match=r": missing head\.norm\.weight: choose"):
        loaded(own, tmp_path, CONVNEXT)


def test_a_convnext_in_the_format_of_its_authors_is_converted_by_timm(tmp_path: Path) -> None:
    own = weights_of(CONVNEXT)
    published = {}
    for name, tensor in own.items():
        old = name.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        old = old.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        for stage in range(1, 4):
            old = old.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
        published[old.replace("head.norm", "norm")] = tensor
    assert published.keys() != own.keys()
    assert same(loaded({"model": published}, tmp_path, CONVNEXT), own)


def test_weights_in_half_precision_become_float32(tmp_path: Path) -> None:
    found = loaded({name: tensor.half() for name, tensor in OWN.items()}, tmp_path)
    assert same(found, {name: tensor.half().float() for name, tensor in OWN.items()})


def test_a_checkpoint_that_would_run_code_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir()

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "trap/sprung",)

    with pytest.raises(ModelError, match=r"w\.pth cannot be read: it is a pickle of more than"):
        loaded({"model": OWN, "args": Trap()}, tmp_path)
    assert not (tmp_path / "trap/sprung").exists()


def test_an_encoder_without_class_token_is_refused_before_its_weights_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "epalm.extract.encoders.weights.timm_weights.published_model",
        lambda *_, **__: pytest.fail("weights were loaded"),
    )
    with pytest.raises(ModelError, match="choose another --encoder"):
        make_encoder("timm:test_resnet")


def test_a_modules_own_tables_in_the_file_are_no_surplus(tmp_path: Path) -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.register_buffer("angles", torch.ones(3), persistent=False)

    model = Rotary()
    save_file(dict(model.state_dict()) | {"angles": torch.ones(3)}, tmp_path / "a.safetensors")
    load_weights(model, tmp_path / "a.safetensors", name="rotary")


def test_prefixes_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    found = []
    for number, kind in enumerate(("plain", "Lightning", "DINO")):
        torch.save(FILES[kind](), tmp_path / f"{number}.pth")
        settings = EncoderSettings(weights=tmp_path / f"{number}.pth")
        found.append(make_encoder(TINY, settings).fingerprint())
    assert found[0] == found[1] == found[2]
