import torch
from torch import nn

from epalm.train.estimate.storage_tracking import LiveStorages, SavedStorages


def same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def test_each_saved_storage_is_counted_once_whatever_its_views() -> None:
    weight = torch.ones(6, 4)
    states = torch.ones(3, 4, requires_grad=True)
    saved = SavedStorages([weight])
    with torch.autograd.graph.saved_tensors_hooks(saved, same):
        inner = (states @ weight.T).relu()
        output = inner[:, :2] * inner[:, 2:4]  # views of what relu saved already
    assert output.requires_grad
    assert saved.nbytes == 3 * 6 * 4


def test_the_peak_is_that_of_tensors_that_exist_at_the_same_time() -> None:
    start = torch.ones(1000)
    with LiveStorages([start]) as live:
        for _ in range(5):
            value = start + 1
            value = value.add_(1).view(10, 100)
            del value
        first, second = start * 2, start * 3
    assert len(first) == len(second)
    assert live.peak == 2 * 4000


def test_both_count_without_data() -> None:
    layer = nn.Linear(64, 256, device="meta").requires_grad_(requires_grad=False)
    saved, live = SavedStorages(layer.parameters()), LiveStorages(layer.parameters())
    with live, torch.autograd.graph.saved_tensors_hooks(saved, same):
        states = torch.empty(10, 64, device="meta", requires_grad=True)
        nn.functional.silu(layer(states))
    assert saved.nbytes == 10 * 256 * 4
    assert live.peak >= 10 * (64 + 2 * 256) * 4
