"""Packed batches against layouts that are worked out by hand."""

import pytest
import torch
from torch import Tensor

from epalm.model.engine.decoder_loop import packed_positions
from epalm.model.engine.packing import PackedBatch, PackedLayout, TokenSplit, build_packed_layout


def rows(*lines: str) -> Tensor:
    """A bool mask from lines of 0 and 1."""
    return torch.tensor([[character == "1" for character in line] for line in lines])


def three_texts() -> PackedBatch:
    """Texts of 2, 3 and 1 tokens; the second is about image 0, the others about image 1."""
    present = rows("110", "111", "100")
    return PackedBatch(present, present, torch.tensor([1, 0, 1]))


def layout_of(sequences: PackedBatch, *, sees_all: bool = False) -> PackedLayout:
    """One visual and one prompt token per image."""
    images = int(sequences.image_index.max()) + 1
    return build_packed_layout(
        sequences,
        image_count=images,
        visual=1,
        prompt=1,
        shared_prompt=False,
        visual_sees_all=sees_all,
    )


def test_positions_count_readable_tokens_and_are_minus_one_for_padding() -> None:
    present, readable = rows("1111", "0110"), rows("0011", "0100")
    sequences = PackedBatch(present, readable, torch.tensor([0, 0]))
    assert sequences.positions.tolist() == [-1, -1, 0, 1, 0, -1]


def test_tokens_before_the_text_have_negative_positions_in_every_copy() -> None:
    positions = packed_positions(torch.tensor([0, 1, 0]), visual=(2, 2), prompt=(3, 1))
    assert positions.tolist() == [-5, -4, -5, -4, -3, -2, -1, 0, 1, 0]
    positions = packed_positions(torch.tensor([0]), visual=(1, 1), prompt=(2, 2))
    assert positions.tolist() == [-3, -2, -1, -2, -1, 0]
    assert packed_positions(torch.tensor([0]), visual=(0, 1), prompt=(0, 1)).tolist() == [0]


def test_each_sequence_has_the_tokens_of_its_image_then_its_own() -> None:
    """The packed tokens are 0 to 3 visual, 4 and 5 prompt, 6 to 11 text; a sequence has 6 slots."""
    sequences = three_texts()
    layout = build_packed_layout(sequences, image_count=2, visual=2, prompt=1, shared_prompt=False)
    tokens = layout.token_of_slot.view(3, 6)
    assert tokens[:, :3].tolist() == [[2, 3, 5], [0, 1, 4], [2, 3, 5]]
    assert tokens[:, 3:][sequences.present].tolist() == [6, 7, 8, 9, 10, 11]
    assert tokens.min() >= 0
    assert tokens.max() < 12
    assert layout.slot_of_token.tolist() == [6, 7, 0, 1, 8, 2, 3, 4, 9, 10, 11, 15]
    assert layout.before_text == 3
    causal = ("100000", "110000", "111000", "111100", "111110", "111111")
    assert torch.equal(layout.visible[1, 0], rows(*causal))
    assert torch.equal(layout.visible[0, 0], rows(*causal[:5], "111110"))
    assert torch.equal(layout.visible[2, 0], rows(*causal[:4], "111100", "111100"))


def test_a_shared_prompt_is_in_the_packed_tokens_once() -> None:
    """The packed tokens are 0 and 1 visual, 2 and 3 prompt, 4 to 9 text."""
    sequences = three_texts()
    layout = build_packed_layout(sequences, image_count=2, visual=1, prompt=2, shared_prompt=True)
    tokens = layout.token_of_slot.view(3, 6)
    assert tokens[:, :3].tolist() == [[1, 2, 3], [0, 2, 3], [1, 2, 3]]
    assert tokens[:, 3:][sequences.present].tolist() == [4, 5, 6, 7, 8, 9]
    assert layout.slot_of_token.tolist() == [6, 0, 7, 8, 3, 4, 9, 10, 11, 15]


def test_tokens_that_are_computed_but_not_readable_are_hidden_from_other_text() -> None:
    sequences = PackedBatch(rows("111"), rows("011"), torch.tensor([0]))
    assert torch.equal(
        layout_of(sequences).visible[0, 0], rows("10000", "11000", "11000", "11010", "11011")
    )


def test_visual_tokens_that_see_all_see_text_and_padding() -> None:
    sequences = PackedBatch(rows("111"), rows("011"), torch.tensor([0]))
    visible = layout_of(sequences, sees_all=True).visible[0, 0]
    assert torch.equal(visible, rows("11111", "11000", "11000", "11010", "11011"))


@pytest.mark.parametrize("sees_all", [False, True])
def test_a_window_bounds_the_view_from_text_to_text_only(*, sees_all: bool) -> None:
    present = rows("1111")
    layout = layout_of(PackedBatch(present, present, torch.tensor([0])), sees_all=sees_all)
    first = "111111" if sees_all else "100000"
    expected = rows(first, "110000", "111000", "111100", "110110", "110011")
    assert torch.equal(layout.within(2).visible[0, 0], expected)
    expected = rows(first, "110000", "111000", "111100", "111110", "110111")
    assert torch.equal(layout.within(3).visible[0, 0], expected)


@pytest.mark.parametrize("window", [None, 4, 5])
def test_a_window_over_the_longest_text_needs_no_mask_of_its_own(window: int | None) -> None:
    present = rows("1111")
    layout = layout_of(PackedBatch(present, present, torch.tensor([0])))
    assert layout.within(window) is layout


def test_a_split_puts_tokens_that_are_keys_only_first() -> None:
    tokens = torch.tensor([10, 11, 12, 13, 14])
    split = TokenSplit.of(rows("10100")[0])
    assert split is not None
    assert split.only_keys == 3
    assert [part.tolist() for part in split.apply(tokens)] == [[11, 13, 14], [10, 12]]


def test_a_split_of_tokens_in_order_moves_none() -> None:
    tokens = torch.tensor([10, 11, 12])
    split = TokenSplit.of(rows("011")[0])
    assert split is not None
    assert split.order is None
    assert [part.tolist() for part in split.apply(tokens)] == [[10], [11, 12]]
    assert TokenSplit.of(rows("111")[0]) is None


def two_texts() -> PackedLayout:
    """The sequences are tokens 0, 2, 3 and tokens 1, 4, 5: one visual and two text tokens each."""
    present = rows("11", "11")
    sequences = PackedBatch(present, present, torch.tensor([0, 1]))
    return build_packed_layout(sequences, image_count=2, visual=1, prompt=0, shared_prompt=False)


def test_queries_have_slots_of_their_own_after_a_split_in_order() -> None:
    """The queries are tokens 3, 4 and 5, in two slots per sequence."""
    split = TokenSplit.of(rows("000111")[0])
    assert split is not None
    layout = two_texts().divided(split)
    assert layout.token_of_slot.tolist() == [0, 2, 3, 1, 4, 5]
    assert layout.slot_of_token.tolist() == [0, 2, 3]
    assert layout.query_of_slot is not None
    assert layout.query_of_slot[layout.slot_of_token].tolist() == [0, 1, 2]
    assert layout.visible.shape == (2, 1, 2, 3)
    visible = layout.visible.view(4, 3)[layout.slot_of_token]
    assert torch.equal(visible, rows("111", "110", "111"))


def test_queries_have_slots_of_their_own_after_a_split_that_moves_tokens() -> None:
    """In the order 1, 3, 4, 0, 2, 5 of the split, the queries are tokens 0, 2 and 5."""
    split = TokenSplit.of(rows("101001")[0])
    assert split is not None
    layout = two_texts().divided(split)
    assert layout.token_of_slot.tolist() == [3, 4, 1, 0, 2, 5]
    assert layout.slot_of_token.tolist() == [0, 1, 2]
    assert layout.query_of_slot is not None
    assert layout.query_of_slot[layout.slot_of_token].tolist() == [0, 1, 2]
    assert layout.visible.shape == (2, 1, 2, 3)
    visible = layout.visible.view(4, 3)[layout.slot_of_token]
    assert torch.equal(visible, rows("100", "110", "111"))
