"""Patches on their grid: averages over cells, and the order of axes."""

import pytest
import torch

from epalm.errors import UsageError
from epalm.extract.encoders.tokens.block_tokens import (
    COLUMN,
    FREQUENCY,
    PATCH,
    ROW,
    TIME,
    Axis,
    BlockTokens,
    cells_of,
    image_grid,
    mean_patch,
    pool_patches,
)


def of(*axes: Axis, special: int = 0) -> BlockTokens:
    return BlockTokens(1, special, class_token=special > 0, axes=axes)


def values(block: BlockTokens) -> torch.Tensor:
    """(1, positions, 1): special tokens are -1000, patches are numbered from 0."""
    patches = torch.arange(block.patches, dtype=torch.float32)
    return torch.cat([torch.full((block.special,), -1000.0), patches])[None, :, None]


def test_the_mean_leaves_out_special_tokens() -> None:
    block = of(*image_grid(2, 3), special=5)
    assert mean_patch(values(block), block).flatten().tolist() == [2.5]


def test_cells_of_an_image_are_listed_row_by_row_without_special_tokens() -> None:
    block = of(*image_grid(2, 4), special=2)  # 0 1 2 3 / 4 5 6 7
    assert pool_patches(values(block), block, (2, 2)).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
    assert pool_patches(values(block), block, (1, 4)).flatten().tolist() == [2, 3, 4, 5]


def test_cells_of_uneven_size_overlap_as_torch_defines_it() -> None:
    block = of(*image_grid(1, 3))
    assert pool_patches(values(block), block, (1, 2)).flatten().tolist() == [0.5, 1.5]


def test_time_comes_first_even_where_it_is_the_fast_axis_of_the_encoder() -> None:
    block = of(Axis(FREQUENCY, 2), Axis(TIME, 3))  # frequency 0: 0 1 2, frequency 1: 3 4 5
    assert block.grid == (Axis(TIME, 3), Axis(FREQUENCY, 2))
    found = pool_patches(values(block), block, (3, 2)).flatten().tolist()
    assert found == [0, 3, 1, 4, 2, 5]


def test_a_video_of_patches_with_their_frames_one_after_the_other() -> None:
    block = of(Axis(ROW, 1), Axis(COLUMN, 2), Axis(TIME, 2), special=1)  # 0 1 | 2 3
    assert pool_patches(values(block), block, (2, 1, 2)).flatten().tolist() == [0, 2, 1, 3]
    cells = cells_of(block, (1, 2), name="clips")
    assert pool_patches(values(block), block, cells).flatten().tolist() == [0.5, 2.5]


def test_an_axis_in_two_parts_is_joined() -> None:
    block = of(Axis(TIME, 2), Axis(FREQUENCY, 2), Axis(TIME, 2))
    assert block.grid == (Axis(TIME, 4), Axis(FREQUENCY, 2))
    # Coarse time 0: frequency 0 has 0 1, frequency 1 has 2 3; coarse time 1: 4 5 and 6 7.
    found = pool_patches(values(block), block, (4, 1)).flatten().tolist()
    assert found == [1, 2, 5, 6]


def test_sound_without_frequencies_takes_one_column() -> None:
    block = of(Axis(TIME, 4))
    cells = cells_of(block, (2, 1), name="waves")
    assert pool_patches(values(block), block, cells).flatten().tolist() == [0.5, 2.5]


@pytest.mark.parametrize(
    ("block", "grid", "message"),
    [
        (of(*image_grid(2, 2)), (3, 1), r"pool:3x1: .* are 2 \(row\) x 2 \(column\): .*pool:2x2"),
        (of(*image_grid(2, 2)), (1, 1, 1), "use e.g. --tokens pool:2x2"),
        (of(Axis(TIME, 4)), (2, 2), r"are 4 \(time\): use e.g. --tokens pool:2x1"),
        (of(Axis(PATCH, 7)), (2, 2), "form no known grid: use --tokens mean"),
    ],
)
def test_cells_that_do_not_fit_the_grid_are_refused(
    block: BlockTokens, grid: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        cells_of(block, grid, name="x")
