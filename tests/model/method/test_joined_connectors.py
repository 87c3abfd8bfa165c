"""Connectors of several stores against the same maps applied to each store's features."""

from typing import Any

import pytest
import torch
from torch import Tensor

from epalm.errors import UsageError
from epalm.model.epalm import EPALM
from epalm.model.method.model_settings import SourceSettings
from epalm.model.method.resampler import Resampler
from epalm.model.method.resampler_shape import ResamplerShape
from tests.model.helpers import settings, text_logits, tiny_opt, tiny_variant

IDS = torch.tensor([[2, 7, 9], [2, 8, 4]])
NARROW = SourceSettings(encoder_width=8, features=9, blocks=(0, 2), positions=3)
WIDE = SourceSettings(encoder_width=12, features=4, blocks=(1, 3))
WIDE_GRID = SourceSettings(encoder_width=12, features=8, blocks=(1, 3), positions=2)


def rows_of(*features: Tensor) -> Tensor:
    return torch.cat([stored.flatten(1) for stored in features], dim=1).unsqueeze(1)


def drawn(source: SourceSettings, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, source.features, source.encoder_width, generator=random)


def joined_model(name: str, *sources: SourceSettings, **changes: Any) -> EPALM:  # noqa: ANN401
    first = sources[0]
    return tiny_variant(
        tiny_opt(layers=13),
        name,
        encoder_width=first.encoder_width,
        cached=len(first.blocks),
        blocks=first.blocks,
        positions=first.positions,
        sources=sources,
        **changes,
    )


def test_features_of_several_blocks_follow_each_other_in_the_order_of_the_stores() -> None:
    model = joined_model("full", NARROW, WIDE)
    narrow, wide = drawn(NARROW, 1), drawn(WIDE, 2)
    first, second = (list(part.maps) for part in model.connectors.parts)
    expected = [
        first[0](narrow[:, 0]),
        first[1](narrow[:, 6]),
        second[0](wide[:, 1]),
        second[1](wide[:, 3]),
    ]
    outputs = model._visual_states(rows_of(narrow, wide))
    assert len(outputs) == len(expected) == model.plan.feature_count
    for output, plain in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, plain)


def test_a_shared_connector_is_shared_within_a_store_and_not_among_stores() -> None:
    model = joined_model("lin", NARROW, WIDE)
    assert [len(part.maps) for part in model.connectors.parts] == [1, 1]
    assert len(model._visual_states(rows_of(drawn(NARROW, 1), drawn(WIDE, 2)))) == 4


@pytest.mark.parametrize(("name", "tokens"), [("limber", (1, 1)), ("limber-all", (3, 2))])
def test_tokens_of_the_last_blocks_are_side_by_side(name: str, tokens: tuple[int, int]) -> None:
    model = joined_model(name, NARROW, WIDE_GRID)
    narrow, wide = drawn(NARROW, 1), drawn(WIDE_GRID, 2)
    first, second = (part.maps[0] for part in model.connectors.parts)
    plain = [
        torch.cat([first(narrow[image, 6 : 6 + tokens[0]]), second(wide[image, 6 : 6 + tokens[1]])])
        for image in range(2)
    ]
    (output,) = model._visual_states(rows_of(narrow, wide))
    assert model.visual_tokens == sum(tokens)
    torch.testing.assert_close(output, torch.cat(plain))


def test_each_store_has_its_own_resampler() -> None:
    shape = ResamplerShape(queries=2, layers=1)
    model = joined_model("resampler", NARROW, WIDE_GRID, resampler=shape)
    narrow, wide = drawn(NARROW, 1), drawn(WIDE_GRID, 2)
    (output,) = model._visual_states(rows_of(narrow, wide))
    for image in range(2):
        parts = []
        for part, stored in zip(model.connectors.parts, (narrow, wide), strict=True):
            assert isinstance(part, Resampler)
            parts += part(stored[image : image + 1, 6:])
        torch.testing.assert_close(output[4 * image : 4 * image + 4], torch.cat(parts))


@pytest.mark.parametrize("name", ["full", "6-connectors", "ada"])
def test_stores_of_one_width_are_equal_to_a_store_with_the_features_of_both(name: str) -> None:
    """The stored blocks 0 and 1, then 2 and 3: as one store, and as two."""
    halves = [SourceSettings(encoder_width=8, features=2, blocks=(0, 1)) for _ in range(2)]
    whole = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(3))
    joined = joined_model(name, *halves, inject="4:12")
    single = tiny_variant(tiny_opt(layers=13), name, cached=4, inject="4:12")
    halved = rows_of(whole[:, :2], whole[:, 2:])
    assert torch.equal(text_logits(joined, halved, IDS), text_logits(single, whole, IDS))


def test_tokens_side_by_side_are_read_as_tokens_of_one_store() -> None:
    """Where both stores have the same connector."""
    halves = [SourceSettings(encoder_width=8, features=2, blocks=(0, 1)) for _ in range(2)]
    whole = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(3))
    joined = joined_model("limber", *halves)
    single = tiny_variant(tiny_opt(layers=13), "limber", cached=1, positions=2, injected_tokens=2)
    for part in joined.connectors.parts:
        part.load_state_dict(single.connectors.state_dict())
    halved = rows_of(whole[:, :2], whole[:, 2:])
    plain = text_logits(single, whole[:, [1, 3]], IDS)
    torch.testing.assert_close(text_logits(joined, halved, IDS), plain, rtol=1e-4, atol=1e-5)


def test_other_numbers_of_tokens_are_refused_where_blocks_follow_each_other() -> None:
    grid = SourceSettings(8, 6, (0, 1), positions=3, injected_tokens=3)
    with pytest.raises(UsageError, match=r"3 and 1 tokens for each block.*--variant limber"):
        joined_model("full", grid, WIDE, injected_tokens=3)


def test_tokens_side_by_side_are_refused_with_the_official_tail() -> None:
    with pytest.raises(UsageError, match="tokens of several stores are side by side"):
        joined_model("limber", NARROW, WIDE, tail="official")


def test_blocks_that_a_row_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match=r"blocks is \(0, 3\), expected indices of the store's 3"):
        SourceSettings(encoder_width=8, features=9, blocks=(0, 3), positions=3)
    with pytest.raises(UsageError, match=r"blocks is \(\)"):
        SourceSettings(encoder_width=8, features=9, blocks=())
    assert settings("full", cached=2, blocks=(1,)).first_source().features == 2
