"""Weights of timm vision transformers: sources, checks and fingerprints."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from epalm.errors import MissingFileError, ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings, last_cls_tokens, make_encoder
from epalm.extract.encoders.frozen_forward import state_digest
from epalm.extract.encoders.timm_vit import TimmEncoder
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.tasks.types import MediaItem
from tests.extract.helpers import TINY, random_model, save_photo, save_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Random weights with a classifier of an unusual size."""
    return save_weights(random_model("test_vit", num_classes=7), tmp_path / "w.safetensors")


def changed(weights: Path, *, drop: str = "", **more: torch.Tensor) -> Path:
    """A copy of `weights` with tensors removed, added or replaced."""
    state = load_file(weights) | more
    state.pop(drop, None)
    copy = weights.with_name("changed.safetensors")
    save_file(state, copy)
    return copy


def tokens_of(encoder: TimmEncoder, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    photos = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        return last_cls_tokens(encoder.blocks(photos), encoder.norm)


def tiny(weights: Path, **settings: object) -> TimmEncoder:
    encoder = make_encoder(TINY, EncoderSettings(weights=weights, **settings))  # type: ignore[arg-type]
    assert isinstance(encoder, TimmEncoder)
    return encoder


def test_local_weights_load_whatever_classifier_they_carry(weights: Path) -> None:
    model = tiny(weights).model
    stored = load_file(weights)
    assert "head.weight" in stored
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[name]), name


def test_a_torch_checkpoint_gives_the_same_encoder_as_safetensors(weights: Path) -> None:
    pth = weights.with_suffix(".pth")
    torch.save({"state_dict": load_file(weights)}, pth)
    assert tiny(pth).fingerprint() == tiny(weights).fingerprint()


def test_missing_and_unexpected_weights_are_listed(weights: Path) -> None:
    other = changed(weights, drop="blocks.2.mlp.fc1.bias", surplus=torch.zeros(1))
    with pytest.raises(ModelError, match=r"missing blocks\.2\.mlp\.fc1\.bias; unexpected surplus"):
        tiny(other)


def test_weights_of_another_shape_are_refused_by_name(weights: Path) -> None:
    other = changed(weights, pos_embed=torch.zeros(1, 7, 64))
    with pytest.raises(ModelError, match=r"does not fit timm test_vit.*pos_embed"):
        tiny(other)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_that_holds_no_weights_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no weights at all, just a few bytes of text")
    with pytest.raises(ModelError, match=f"{name} cannot be read"):
        tiny(tmp_path / name)


def test_a_folder_that_a_model_was_saved_to_serves_as_its_weights(
    weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(MissingFileError, match=r"saved is a folder without model\.safetensors or"):
        tiny(folder)
    (folder / "model.safetensors").write_bytes(weights.read_bytes())
    assert tiny(folder).fingerprint() == tiny(weights).fingerprint()


def test_a_weights_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"--weights .*nowhere\.pth: no such file"):
        tiny(tmp_path / "nowhere.pth")


def test_without_hub_and_cache_one_error_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **settings: Any) -> nn.Module:  # noqa: ANN401
        if pretrained:
            raise LocalEntryNotFoundError("cannot find the requested files in the local cache")
        model: nn.Module = create(name, **settings)
        return model

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match=r"--weights.*HF_HUB_OFFLINE"):
        make_encoder("vit-ti16")


@pytest.mark.slow
def test_with_an_empty_cache_offline_the_command_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"id": "1", "media": "a.png", "answers": ["b"]}\n')
    (tmp_path / "a.png").write_bytes(b"")
    script = "import sys; from epalm.extract.cli import main; sys.argv[0] = 'epalm-extract'; main()"
    arguments = ["--encoder", "vit-ti16", "--dataset", str(tmp_path), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: the weights of timm vit_tiny_patch16_224.augreg_in21k_ft_in1k" in done.stderr
    assert "--weights" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vit_tini_patch16_224", r"'vit_tini_patch16_224': did you mean vit_tiny_patch16_224 or "),
        ("swin_tiny", r"'swin_tiny': did you mean swin_tiny_patch4_window7_224\?"),
        ("of no kind", r"'of no kind': python -c 'import timm; .*' lists all"),
        ("test_vit.r16", r"no weights 'r16' of test_vit; known are test_vit\.r160_in1k$"),
    ],
)
def test_an_unknown_architecture_or_tag_gets_the_nearest_known_ones(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make_encoder(f"timm:{name}")


def test_one_changed_weight_changes_the_digest_and_nothing_else(weights: Path) -> None:
    before = tiny(weights).fingerprint()
    norm_weight = load_file(weights)["norm.weight"]
    norm_weight[3] += 1e-6
    after = tiny(changed(weights, **{"norm.weight": norm_weight})).fingerprint()
    assert [name for name in before if before[name] != after[name]] == ["weights_sha256"]


def test_the_classifier_does_not_count_in_the_digest(weights: Path) -> None:
    other = changed(weights, **{"head.bias": torch.ones(7)})
    assert tiny(other).fingerprint() == tiny(weights).fingerprint()


def test_the_digest_sees_shapes_and_names_not_only_bytes() -> None:
    flat, square, renamed = (torch.nn.Module() for _ in range(3))
    flat.register_buffer("a", torch.zeros(4))
    square.register_buffer("a", torch.zeros(2, 2))
    renamed.register_buffer("b", torch.zeros(4))
    assert len({state_digest(module) for module in (flat, square, renamed)}) == 3


def test_preprocessing_and_precision_are_in_the_fingerprint(weights: Path) -> None:
    official, native = tiny(weights), tiny(weights, preprocessing="native")
    assert official.fingerprint()["preprocessing.mean"] == "(0.48145466, 0.4578275, 0.40821073)"
    assert native.fingerprint()["preprocessing.mean"] == "(0.5, 0.5, 0.5)"
    assert tiny(weights, precision="bf16").fingerprint()["precision"] == "bf16"


def test_views_are_in_the_fingerprint_only_if_there_are_several(weights: Path) -> None:
    one, three = tiny(weights), tiny(weights, views=AugmentedViews(3, 5, "no-flip"))
    assert tiny(weights, views=AugmentedViews(1, 5)).fingerprint() == one.fingerprint()
    added = {
        name: text for name, text in three.fingerprint().items() if name not in one.fingerprint()
    }
    assert one.fingerprint().items() <= three.fingerprint().items()
    assert added.keys() == three.load.views.fingerprint().keys()
    assert (added["views.seed"], added["views.augmentation"]) == ("5", "no-flip")


def test_an_encoder_loads_as_many_views_as_it_was_made_with(weights: Path, tmp_path: Path) -> None:
    item = MediaItem.from_path(save_photo(tmp_path / "a.png"), "a")
    encoder = tiny(weights, views=AugmentedViews(3, 5))
    views = [encoder.load(item, view) for view in range(3)]
    assert np.array_equal(views[0], tiny(weights).load(item, 0))
    assert len({np.asarray(view).tobytes() for view in views}) == 3
    with pytest.raises(ValueError, match="there is no view 3"):
        encoder.load(item, 3)


def test_the_input_has_the_size_the_model_wants(weights: Path) -> None:
    assert tiny(weights).load.preset.size == 160


def test_bf16_rounds_products_but_returns_normed_float32_tokens(weights: Path) -> None:
    exact, rounded = tokens_of(tiny(weights)), tokens_of(tiny(weights, precision="bf16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, rounded.bfloat16().float())
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-5 < error < 2e-2
