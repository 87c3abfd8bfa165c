"""Batches against ones that are written down by hand."""

import pytest
import torch

from epalm.model.engine.model_batch import IGNORED, Batch, collate_texts

TEXTS = [([2, 10, 11], [20, 2]), ([2], [21, 22, 23, 2]), ([2, 12], [2])]
"""Three pairs of prompt and answer, of 5, 5 and 3 tokens."""

NONE = IGNORED


@pytest.mark.parametrize(
    ("supervise", "labels"),
    [
        ("all", [[NONE, 10, 11, 20, 2], [NONE, 21, 22, 23, 2], [NONE, 12, 2, NONE, NONE]]),
        ("answer", [[NONE, NONE, NONE, 20, 2], [NONE, 21, 22, 23, 2], [NONE, NONE, 2, NONE, NONE]]),
    ],
)
def test_texts_are_padded_on_the_right_and_supervised_as_requested(
    supervise: str, labels: list[list[int]]
) -> None:
    result = collate_texts(TEXTS, supervise=supervise, pad=7)  # type: ignore[arg-type]
    assert [tensor.dtype for tensor in result] == [torch.int64] * 3
    ids, mask, supervised = (tensor.tolist() for tensor in result)
    assert ids == [[2, 10, 11, 20, 2], [2, 21, 22, 23, 2], [2, 12, 2, 7, 7]]
    assert mask == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert supervised == labels


def test_a_label_of_the_ignored_kind_is_the_one_that_pytorch_ignores() -> None:
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED


@pytest.mark.parametrize("states", [None, torch.ones(2, 4)])
def test_a_batch_moves_with_all_its_tensors(states: torch.Tensor | None) -> None:
    ids = torch.tensor([[2, 5]])
    batch = Batch(torch.zeros(1, 2, 8), ids, torch.ones_like(ids), ids, torch.tensor([0]), states)
    moved = batch.to(torch.device("meta"))
    for name, tensor in vars(batch).items():
        result = getattr(moved, name)
        assert (result is None) == (tensor is None)
        if tensor is not None:
            assert (result.device.type, result.shape) == ("meta", tensor.shape)
