"""The contract of timm's vision transformers; test_encoders.py holds that of all encoders."""

import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from epalm.errors import ModelError, UsageError
from epalm.extract.encoders import timm_vit
from epalm.extract.encoders.encoder_registry import (
    Encoder,
    EncoderSettings,
    last_cls_tokens,
    make_encoder,
    normed_tokens,
)
from epalm.extract.encoders.tokens.token_encoder import with_tokens
from epalm.extract.encoders.tokens.token_source import outputs_of
from epalm.extract.encoders.weights import timm_weights
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.plugins import TypedName
from tests.extract.helpers import TINY, random_model

SLOW = ("vit-s16", "vit-b16", "vit-l16")


@dataclass
class Case:
    encoder: Encoder
    stock: Any
    photos: Tensor


@pytest.fixture(
    scope="module",
    params=[
        TINY,
        *(
            pytest.param(n, marks=pytest.mark.slow if n in SLOW else ())
            for n in timm_vit.ARCHITECTURES
        ),
    ],
)
def case(request: pytest.FixtureRequest) -> Case:
    """An encoder made by its name, with random weights in place of the published ones."""
    name: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm_weights, "published_model", random_model)
        encoder = make_encoder(name)
    architecture = timm_vit.ARCHITECTURES.get(name, name.removeprefix("timm:"))
    stock = random_model(architecture)
    size = timm.data.resolve_model_data_config(stock)["input_size"][-1]
    seeded = torch.Generator().manual_seed(0)
    photos = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=seeded)
    return Case(encoder, stock, photos)


def tokens_of(encoder: Encoder, photos: Tensor, keep: int = 6) -> Tensor:
    with torch.inference_mode():
        return last_cls_tokens(encoder.blocks(photos), encoder.norm, keep)


def clip_normalized(photos: Tensor) -> Tensor:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return (photos / 255 - mean[:, None, None]) / std[:, None, None]


def test_tokens_equal_timms_own_intermediate_layers(case: Case) -> None:
    with torch.inference_mode():
        layers = case.stock.get_intermediate_layers(
            clip_normalized(case.photos), n=6, return_prefix_tokens=True, norm=True
        )
    expected = torch.stack([prefix[:, 0] for _, prefix in layers], dim=1)
    torch.testing.assert_close(tokens_of(case.encoder, case.photos), expected, rtol=0, atol=1e-5)


def test_tokens_equal_a_pass_block_by_block_through_the_stock_model(case: Case) -> None:
    stock = case.stock
    expected = []
    with torch.inference_mode():
        states = stock.norm_pre(stock._pos_embed(stock.patch_embed(clip_normalized(case.photos))))
        for block in stock.blocks:
            states = block(states)
            expected.append(stock.norm(states)[:, 0])
    found = tokens_of(case.encoder, case.photos, keep=len(stock.blocks))
    torch.testing.assert_close(found, torch.stack(expected, dim=1), rtol=0, atol=1e-5)


def test_all_tokens_equal_a_pass_block_by_block_through_the_stock_model(case: Case) -> None:
    stock, encoder = case.stock, case.encoder
    layers = (0, encoder.depth - 1)
    expected = []
    with torch.inference_mode():
        states = stock.norm_pre(stock._pos_embed(stock.patch_embed(clip_normalized(case.photos))))
        for number, block in enumerate(stock.blocks):
            states = block(states)
            if number in layers:
                expected.append(stock.norm(states))
        blocks = encoder.blocks(case.photos, layers=layers, positions=encoder.positions)
        found = normed_tokens(blocks, encoder.norm)
    assert encoder.positions == expected[0].shape[1] > 1
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=0, atol=1e-5)


def test_batch_size_and_order_change_nothing_but_float_noise(case: Case) -> None:
    together = tokens_of(case.encoder, case.photos)
    reversed_alone = [tokens_of(case.encoder, photo[None]) for photo in case.photos.flip(0)]
    torch.testing.assert_close(torch.cat(reversed_alone).flip(0), together, rtol=0, atol=1e-4)


def test_different_images_give_different_tokens_in_every_block(case: Case) -> None:
    tokens = tokens_of(case.encoder, case.photos)
    assert (tokens[0] - tokens[1]).abs().amax(dim=-1).min() > 1e-3


def test_an_encoder_states_its_width_depth_modality_and_fingerprint(case: Case) -> None:
    encoder = case.encoder
    blocks = encoder.blocks(case.photos)
    assert len(blocks) == encoder.depth == len(case.stock.blocks)
    assert all(
        block.shape[-1] == encoder.width and block.dtype == torch.float32 for block in blocks
    )
    assert encoder.modality == "image"
    assert all(isinstance(text, str) and text for text in encoder.fingerprint().values())


def test_an_encoder_is_frozen_and_in_evaluation_mode(case: Case) -> None:
    assert not tokens_of(case.encoder, case.photos).requires_grad
    assert not case.encoder.norm.training
    assert not any(parameter.requires_grad for parameter in case.encoder.norm.parameters())


def test_a_loader_travels_to_workers_without_the_weights(case: Case) -> None:
    packed = pickle.dumps(case.encoder.load)
    assert len(packed) < 2000
    assert pickle.loads(packed) == case.encoder.load


def test_last_cls_tokens_norms_position_0_of_the_last_blocks_oldest_first() -> None:
    blocks = [torch.randn(2, 5, 8) for _ in range(4)]
    norm = nn.LayerNorm(8)
    found = last_cls_tokens(blocks, norm, keep=2)
    assert found.shape == (2, 2, 8)
    torch.testing.assert_close(found[:, 0], norm(blocks[2][:, 0]))
    torch.testing.assert_close(found[:, 1], norm(blocks[3][:, 0]))


@pytest.mark.parametrize("keep", [0, 3])
def test_keeping_more_blocks_than_there_are_is_refused(keep: int) -> None:
    with pytest.raises(ValueError, match=f"cannot keep {keep} of 2 blocks"):
        last_cls_tokens([torch.zeros(1, 1, 4)] * 2, nn.LayerNorm(4), keep=keep)


def test_an_unknown_encoder_is_a_usage_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'vit-b17'.*vit-ti16, vit-s16, vit-b16, vit-l16"):
        make_encoder("vit-b17")


@pytest.mark.parametrize(
    "name", ["no.such.module:Name", "epalm.extract.encoders.timm_vit:no_such_name"]
)
def test_a_factory_that_cannot_be_imported_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        make_encoder(name)


def test_a_users_factory_is_imported_by_module_and_name_and_gets_the_settings() -> None:
    name = TypedName(f"{__name__}:own_factory")
    settings = EncoderSettings(preprocessing="native", precision="bf16", views=AugmentedViews(3, 7))
    encoder: Any = make_encoder(name, settings)
    assert encoder == (name, settings)


def own_factory(name: str, settings: EncoderSettings) -> tuple[str, EncoderSettings]:
    return name, settings


def test_an_unknown_precision_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'fp8' is not one of fp32, bf16"):
        make_encoder("vit-ti16", EncoderSettings(precision="fp8"))


def test_an_unknown_timm_architecture_is_a_usage_error_with_near_names() -> None:
    with pytest.raises(UsageError, match=r"vit_tiny_patch17_224.*vit_tiny_patch16_224"):
        make_encoder("timm:vit_tiny_patch17_224")


@pytest.mark.parametrize("architecture", ["test_resnet", "xcit_nano_12_p16_224"])
def test_a_timm_model_whose_blocks_have_no_tokens_of_one_kind_is_refused(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm_weights, "published_model", random_model)
    reason = "whose blocks have no tokens of one kind.*one of the classes VisionTransformer, Eva"
    with pytest.raises(ModelError, match=f"timm {architecture} is a .*{reason}"):
        make_encoder(f"timm:{architecture}")


def test_a_timm_model_without_class_token_has_none_of_its_registers_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timm_weights, "published_model", random_model)
    encoder = make_encoder("timm:test_vit3")
    outputs = outputs_of(encoder)[-1]
    stock: Any = random_model("test_vit3")
    assert (stock.cls_token, outputs.class_token) == (None, False)
    assert outputs.special == stock.num_prefix_tokens
    with pytest.raises(UsageError, match="has no class token among its tokens: use --tokens mean"):
        with_tokens(encoder, "cls")


def test_a_model_that_norms_after_pooling_has_unnormed_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pooled(architecture: str) -> nn.Module:
        model: nn.Module = timm.create_model(architecture, num_classes=0, global_pool="avg")
        return model

    monkeypatch.setattr(timm_weights, "published_model", pooled)
    encoder = make_encoder(TINY)
    assert encoder.fingerprint()["norm"] == "none"
    assert with_tokens(encoder, "mean").fingerprint()["norm"] == "after pooling"
