"""The optimizer of a recipe: AdamW with groups of learning rates."""

import torch
from torch import nn

from epalm.model.epalm import EPALM, trainable_parameters
from epalm.train.config.recipe import Recipe

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Constants of AdamW in the official implementation, which are also PyTorch's defaults."""


def make_optimizer(model: EPALM, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the trainable tensors; group 0 follows the schedule, the others are constant."""
    constant_rates = {
        "prompt": recipe.prompt_lr,
        "adapters": recipe.adapter_lr,
        "language_model": recipe.lm_lr,
    }
    grouped: dict[str, list[nn.Parameter]] = {"": []}
    for name, weight in trainable_parameters(model):
        part = name.split(".")[0]
        grouped.setdefault(part if constant_rates.get(part, 0) > 0 else "", []).append(weight)
    groups = [
        {"params": weights, "lr": constant_rates.get(part, recipe.lr), "part": part}
        for part, weights in grouped.items()
    ]
    return torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=recipe.weight_decay)


def constant_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rates of the parts that do not follow the schedule, e.g. "lr_prompt"."""
    return {f"lr_{group['part']}": group["lr"] for group in optimizer.param_groups[1:]}
