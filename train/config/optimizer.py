"""The optimizer of a recipe: AdamW with groups of learning rates."""

import torch
from torch import nn

from epalm.model.epalm import EPALM, trainable_parameters
from epalm.train.config.recipe import Recipe

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Constants of AdamW in the official implementation, which are also PyTorch's defaults."""


def make_optimizer(model: EPALM, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the trainable tensors; group 0 follows the schedule, the others have own rates."""
    own = _own_rates(recipe)
    grouped: dict[str, list[nn.Parameter]] = {"": []}
    for name, weight in trainable_parameters(model):
        part = name.split(".")[0]
        grouped.setdefault(part if own.get(part, 0) > 0 else "", []).append(weight)
    groups = [
        {"params": weights, "lr": own.get(part, recipe.lr), "part": part}
        for part, weights in grouped.items()
    ]
    return torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=recipe.weight_decay)


def set_rates(optimizer: torch.optim.Optimizer, recipe: Recipe, scheduled: float) -> None:
    """Set the learning rates of a step.

    Args:
        optimizer: optimizer that `make_optimizer` made.
        recipe: settings of the run.
        scheduled: what the schedule makes of `recipe.lr` at this step.
    """
    first, *others = optimizer.param_groups
    first["lr"] = scheduled
    if recipe.scheduled_rates:
        for group in others:
            group["lr"] = _own_rates(recipe)[group["part"]] * scheduled / recipe.lr


def _own_rates(recipe: Recipe) -> dict[str, float]:
    """The learning rates of the parts that may have their own; 0 for those that have none."""
    return {
        "prompt": recipe.prompt_lr,
        "adapters": recipe.adapter_lr,
        "language_model": recipe.lm_lr,
    }


def own_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Current learning rates of the parts that have their own, e.g. "lr_prompt"."""
    return {f"lr_{group['part']}": group["lr"] for group in optimizer.param_groups[1:]}
