"""GPT-2's transposed linear maps, as the linear maps that all other code expects."""

from torch import nn
from transformers.pytorch_utils import Conv1D


def use_linear_maps(module: nn.Module) -> None:
    """Replace all `Conv1D` maps within a module by equal `torch.nn.Linear` ones."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, Conv1D):
                setattr(part, name, _linear(child))


def _linear(conv: Conv1D) -> nn.Linear:
    width, outputs = conv.weight.shape
    linear = nn.Linear(width, outputs, device="meta")
    weight, bias = conv.weight.detach().T.contiguous(), conv.bias.detach()
    linear.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
    linear.bias = nn.Parameter(bias, requires_grad=conv.bias.requires_grad)
    return linear.train(conv.training)
