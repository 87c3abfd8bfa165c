"""A small model with an optimizer that has taken a step, in memory."""

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import torch

from epalm.model.build import assemble
from epalm.model.engine.language_model import load_language_model
from epalm.model.epalm import EPALM
from epalm.model.method.model_settings import ModelSettings
from epalm.train.config.optimizer import make_optimizer
from epalm.train.config.recipe import Recipe, load_recipe
from tests.fakes import save_language_model

RECIPE: Recipe = load_recipe("small", [("prompt_lr", 0.01)])


@lru_cache
def _lm() -> str:
    return str(save_language_model(Path(mkdtemp()) / "lm", ["red", "blue"], width=4, layers=2))


def make(*, seed: int = 0, steps: int = 1) -> tuple[EPALM, torch.optim.AdamW]:
    """Model and optimizer; one trained tensor has never had a gradient."""
    torch.manual_seed(seed)
    lm = load_language_model(_lm(), "fp32")
    settings = ModelSettings(
        _lm(), "fp32", "full-light", 2, 2, 1, "0:2", "causal", 0.0, "{answer}", "all"
    )
    model = assemble(lm, settings)
    optimizer = make_optimizer(model, RECIPE)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for _ in range(steps):
        for weight in weights[1:]:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    return model, optimizer


def state(model: EPALM, optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    """Everything that a checkpoint has to restore."""
    actual = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for group in optimizer.param_groups:
        for place, weight in enumerate(group["params"]):
            for key, value in optimizer.state.get(weight, {}).items():
                actual[f"{key} {place} {tuple(weight.shape)}"] = value.clone()
    return actual


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Whether both hold equal tensors, bit by bit."""
    return left.keys() == right.keys() and all(
        torch.equal(tensor.view(torch.int32), right[name].view(torch.int32))
        for name, tensor in left.items()
    )
