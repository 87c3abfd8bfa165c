"""Token policies of an encoder: what is kept, from which blocks, and what is refused."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from epalm.errors import UsageError
from epalm.extract.encoders.tokens.block_tokens import BlockTokens, image_grid
from epalm.extract.encoders.tokens.token_encoder import TokenEncoder, with_tokens
from epalm.tasks.types import Modality
from tests.extract.helpers import CountingEncoder, load_number

BATCH = torch.arange(3, dtype=torch.float32)[:, None, None]


class Double(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return 2 * tokens


class Stages:
    """Two stages: blocks 0 and 1 of 4 x 4 patches and width 2, blocks 2 to 4 of 2 x 2 and width 4.

    Token p of block b is 100 * sample + 10 * b + p.
    """

    name = "stages"
    width = 4
    depth = 5
    positions = 4
    modality: Modality = "image"
    norm: nn.Module = nn.Identity()
    load = staticmethod(load_number)
    has_attention_pool = True

    def __init__(self, norm: nn.Module | None = None, pooled_norm: nn.Module | None = None) -> None:
        self.norm = norm or nn.Identity()
        early = BlockTokens(2, 0, class_token=False, axes=image_grid(4, 4))
        late = BlockTokens(
            4,
            0,
            class_token=False,
            axes=image_grid(2, 2),
            norm=self.norm,
            pooled_norm=pooled_norm or nn.Identity(),
        )
        self.outputs = [early] * 2 + [late] * 3

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        states = []
        for layer in range(5) if layers is None else layers:
            output = self.outputs[layer]
            tokens = torch.arange(output.positions) + 10 * layer + 100 * batch[:, 0]
            states.append(tokens[:, :positions, None].repeat(1, 1, output.width))
        return states

    def attention_pool(self, batch: Tensor) -> Tensor:
        return batch[:, 0].repeat(1, 4) - 0.5

    def fingerprint(self) -> dict[str, str]:
        return {"token": "cls", "norm": "final"}


def kept(encoder: TokenEncoder) -> list[list[float]]:
    """Values of the first sample's tokens, per block."""
    blocks = encoder.blocks(BATCH, layers=encoder.layers, positions=encoder.positions)
    assert all(block.shape == (3, encoder.positions, encoder.width) for block in blocks)
    return [encoder.norm(block)[0, :, 0].tolist() for block in blocks]


def test_the_default_is_cls_where_there_is_one_else_the_mean() -> None:
    assert str(with_tokens(CountingEncoder(), "auto").policy) == "cls"
    assert str(with_tokens(Stages(), "auto").policy) == "mean"


def test_default_blocks_are_the_last_six_of_the_same_shape() -> None:
    assert with_tokens(CountingEncoder(), "cls").layers == (1, 2, 3, 4, 5, 6)
    assert with_tokens(CountingEncoder(), "all").layers == (6,)
    assert with_tokens(Stages(), "mean").layers == (2, 3, 4)
    assert with_tokens(Stages(), "pool:1x2").layers == (4,)
    assert with_tokens(Stages(), "map").layers == (4,)


class Scattered(Stages):
    """The same stages, whose tokens are random numbers."""

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        states = []
        for layer in range(5) if layers is None else layers:
            random = torch.Generator().manual_seed(layer)
            shape = (len(batch), self.outputs[layer].positions, self.outputs[layer].width)
            states.append(torch.randn(shape, generator=random)[:, :positions])
        return states


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 1), (1, 4), (2, 1)])
def test_pooled_tokens_are_the_means_of_all_tokens_over_the_cells(rows: int, columns: int) -> None:
    everything = with_tokens(Scattered(), "all", "0,1")
    pooled = with_tokens(Scattered(), f"pool:{rows}x{columns}", "0,1")
    tokens, cells = (
        encoder.blocks(BATCH, layers=encoder.layers, positions=encoder.positions)
        for encoder in (everything, pooled)
    )
    height, width = 4 // rows, 4 // columns
    for block, found in zip(tokens, cells, strict=True):
        for cell in range(rows * columns):
            top, left = height * (cell // columns), width * (cell % columns)
            inside = [
                block[:, 4 * row + column]
                for row in range(top, top + height)
                for column in range(left, left + width)
            ]
            plain = torch.stack(inside).mean(0)
            torch.testing.assert_close(found[:, cell], plain)


def test_each_policy_keeps_its_tokens_of_each_block() -> None:
    assert kept(with_tokens(Stages(), "mean", "2,4")) == [[21.5], [41.5]]
    assert kept(with_tokens(Stages(), "pool:2x1", "2,4")) == [[20.5, 22.5], [40.5, 42.5]]
    assert kept(with_tokens(Stages(), "all", "2,4")) == [[20, 21, 22, 23], [40, 41, 42, 43]]
    assert kept(with_tokens(Stages(), "pool:1x2", "0,1")) == [[6.5, 8.5], [16.5, 18.5]]
    assert kept(with_tokens(Stages(), "map")) == [[-0.5]]
    assert kept(with_tokens(CountingEncoder(), "mean", "5")) == [[5.375]], "not [CLS], but 1/4, 2/4"
    assert kept(with_tokens(CountingEncoder(), "cls", "5")) == [[5]]


def test_norms_are_applied_to_tokens_before_and_those_of_pooling_after_the_average() -> None:
    assert kept(with_tokens(Stages(norm=Double()), "mean", "4")) == [[83]]
    squared = Stages(pooled_norm=Double())
    assert kept(with_tokens(squared, "mean", "4")) == [[83]]
    assert kept(with_tokens(squared, "all", "4")) == [[40, 41, 42, 43]]
    found = with_tokens(squared, "mean", "4")
    assert found.fingerprint()["norm"] == "after pooling"
    assert "normed after the average" in found.describe()


def test_the_fingerprint_names_the_policy_and_leaves_that_of_cls_as_it_was() -> None:
    assert with_tokens(CountingEncoder(), "cls").fingerprint() == {"code": "test"}
    assert with_tokens(CountingEncoder(), "all").fingerprint() == {"code": "test", "token": "all"}
    assert with_tokens(Stages(), "pool:1x2").fingerprint()["token"] == "pool:1x2"
    assert with_tokens(Stages(), "all").fingerprint()["class_token"] == "none"


REFUSED = {
    "cls of none": (
        Stages(),
        "cls",
        "",
        "stages has no class token among its tokens: use --tokens",
    ),
    "no pooling": (
        CountingEncoder(),
        "map",
        "",
        "no attention pooling of its own: use --tokens mean",
    ),
    "no grid": (CountingEncoder(), "pool:1x1", "", "form no known grid: use --tokens mean"),
    "blocks of map": (Stages(), "map", "3", "of its last block: leave out --source-layers"),
    "two shapes": (Stages(), "mean", "1,2", "0-1 of width 2, 2-4 of width 4: keep blocks of one"),
    "no such block": (Stages(), "mean", "7", "there is no block 7"),
    "no such policy": (Stages(), "some", "", "expected cls, mean, map, all, pool:ROWSxCOLUMNS"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_encoder_does_not_have_is_refused_with_what_to_do(case: str) -> None:
    encoder, tokens, layers, message = REFUSED[case]
    with pytest.raises(UsageError, match=message):
        with_tokens(encoder, tokens, layers)
