"""The contract of every encoder: [CLS] tokens equal those of the original model in any batch."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from epalm.cache.create_store import create_store
from epalm.cache.readers.open_reader import open_store
from epalm.cache.spec import StoreSpec
from epalm.extract.decoding.decode_batch import batch_requests
from epalm.extract.decoding.decode_pool import load_batches
from epalm.extract.encoders.encoder_names import ENCODERS
from epalm.extract.encoders.encoder_registry import (
    Encoder,
    EncoderSettings,
    last_cls_tokens,
    make_encoder,
)
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.tasks.types import MediaItem
from tests.extract.encoders.tiny_encoders import MAKERS, Tiny, covered, make_tiny, save_media

MEDIA = 5


@dataclass
class Case:
    tiny: Tiny
    encoder: Encoder
    items: list[MediaItem]
    inputs: Tensor


@pytest.fixture(scope="module", params=MAKERS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("tiny")
    tiny = make_tiny(request.param, folder)
    encoder = make_encoder(tiny.name, tiny.settings)
    items = save_media(folder, tiny.media, MEDIA)
    inputs = torch.stack([torch.as_tensor(encoder.load(item, 0)) for item in items])
    return Case(tiny, encoder, items, inputs)


def cls_of(encoder: Encoder, inputs: Tensor, keep: int = 6) -> Tensor:
    with torch.inference_mode():
        return last_cls_tokens(encoder.blocks(inputs), encoder.norm, keep)


def cls_of_stock(tiny: Tiny, inputs: Tensor) -> Tensor:
    """[CLS] tokens by hooks on the original model's blocks and its final norm, (B, blocks, D)."""
    states: list[Tensor] = []
    for block in tiny.blocks:
        block.register_forward_hook(
            lambda _block, _inputs, out: states.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.inference_mode():
        tiny.stock(tiny.arguments(inputs))
        cls = torch.stack([tiny.norm(state)[:, 0] for state in states], dim=1)
    return cls.unflatten(0, (-1, tiny.pooled)).mean(1) if tiny.pooled else cls


def stored(case: Case, path: Path, options: RunOptions, *, step: int) -> Tensor:
    """The features in a float32 store of the samples, in their order or reversed (step -1)."""
    encoder = case.encoder
    items = case.items[::step]
    spec = StoreSpec(
        dataset="tiny",
        encoder=encoder.name,
        fingerprint=encoder.fingerprint(),
        layers=tuple(range(encoder.depth - 6, encoder.depth)),
        width=encoder.width,
        count=len(items),
        dtype="float32",
        shard_rows=64,
    )
    store = create_store(path, spec, [item.key for item in items])
    assert extract(encoder, items, store, options=options).failed == 0
    return torch.from_numpy(np.array(open_store(path).read([item.key for item in case.items])))


def test_every_encoder_has_a_case_here() -> None:
    assert set(ENCODERS) <= covered()


def test_tokens_equal_those_of_hooks_on_the_stock_model(case: Case) -> None:
    expected = cls_of_stock(case.tiny, case.inputs)
    assert case.encoder.depth == expected.shape[1] >= 6
    found = cls_of(case.encoder, case.inputs, keep=case.encoder.depth)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_blocks_can_be_picked_and_have_all_their_tokens(case: Case) -> None:
    encoder = case.encoder
    with torch.inference_mode():
        every = encoder.blocks(case.inputs, positions=encoder.positions)
        some = encoder.blocks(case.inputs, layers=(0, 5))
    assert all(states.shape == (MEDIA, encoder.positions, encoder.width) for states in every)
    for few, states in zip(some, (every[0], every[5]), strict=True):
        torch.testing.assert_close(few, states[:, :1], rtol=0, atol=0)


@pytest.mark.parametrize(("batch_size", "workers", "step"), [(1, 0, 1), (3, 2, 1), (5, 0, -1)])
def test_batch_size_workers_and_order_change_nothing_but_float_noise(
    case: Case, tmp_path: Path, batch_size: int, workers: int, step: int
) -> None:
    options = RunOptions(batch_size=batch_size, workers=workers, quiet=True)
    found = stored(case, tmp_path / "s.zarr", options, step=step)
    torch.testing.assert_close(found, cls_of(case.encoder, case.inputs), rtol=0, atol=1e-5)


def test_different_samples_give_different_tokens(case: Case) -> None:
    tokens = cls_of(case.encoder, case.inputs)
    assert (tokens[0] - tokens[1]).abs().amax(dim=-1).min() > 1e-4


def test_the_fingerprint_is_that_of_the_same_weights_and_settings_again(case: Case) -> None:
    again = make_encoder(case.tiny.name, case.tiny.settings)
    assert again.fingerprint() == case.encoder.fingerprint()
    assert all(isinstance(text, str) and text for text in again.fingerprint().values())
    assert case.encoder.modality == case.tiny.media


def test_an_encoder_is_frozen_and_in_evaluation_mode(case: Case) -> None:
    assert not cls_of(case.encoder, case.inputs).requires_grad
    assert not case.encoder.norm.training
    assert not any(parameter.requires_grad for parameter in case.encoder.norm.parameters())


def test_a_loader_is_pickled_without_weights_and_samples(case: Case) -> None:
    packed = pickle.dumps(case.encoder.load)
    assert len(packed) < 2000
    assert pickle.loads(packed) == case.encoder.load


def test_drawn_views_differ_and_are_the_same_in_any_process(case: Case) -> None:
    settings = EncoderSettings(**{**vars(case.tiny.settings), "views": AugmentedViews(3, 7)})
    load = make_encoder(case.tiny.name, settings).load
    loaded = [load(item, view) for item in case.items for view in range(3)]
    here = torch.stack([torch.as_tensor(one) for one in loaded])
    requests = batch_requests(enumerate(case.items), 3, batch_size=4)
    batches = [batch.inputs for batch in load_batches(requests, load, workers=1)]
    there = [torch.as_tensor(inputs) for inputs in batches if inputs is not None]
    assert torch.equal(here, torch.cat(there))
    different = len({view.numpy().tobytes() for view in here})
    assert different > 2 * MEDIA, "a mask may be empty, most are not"
    assert torch.equal(here[::3], case.inputs)
