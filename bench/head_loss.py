"""How fast is the loss at a frozen LM head, with and without keeping the logits for backward?

    OMP_NUM_THREADS=1 python -m bench.head_loss

Both variants give the loss of each token and the gradient of the states; a test compares them.
"""

import copy
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.support.timed_rounds import (
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    Stopwatch,
    Variant,
    compare,
    interleave,
)
from epalm.model.engine.language_model import PRECISIONS
from epalm.model.engine.losses import head_losses
from epalm.model.engine.onednn_linear import use_onednn_layout

REFERENCE = "all logits"


def plain_losses(states: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """(M) float32 losses, computed from all logits at once."""
    return cross_entropy(head(states).float(), targets, reduction="none")


def step_variant(
    compute: Callable[[Tensor, nn.Linear, Tensor], Tensor],
    states: Tensor,
    *,
    head: nn.Linear,
    targets: Tensor,
) -> Variant:
    """A variant that computes the losses and the gradient of the states."""

    def run(_number: int) -> Sample:
        with Stopwatch() as stopwatch:
            losses = compute(states, head, targets)
            torch.autograd.grad(losses.sum(), states)
        return stopwatch.sample(len(states))

    return run


def lines_for(precision: str, *, rows: int, width: int, words: int, rounds: int) -> list[Line]:
    """Result lines of all variants in one precision."""
    dtype = PRECISIONS[precision]
    states = torch.randn(rows, width).to(dtype).requires_grad_()
    head = nn.Linear(width, words, bias=False, dtype=dtype).requires_grad_(requires_grad=False)
    onednn_head = copy.deepcopy(head)
    use_onednn_layout(onednn_head)
    targets = torch.randint(0, words, (rows,))
    samples = interleave(
        {
            f"{precision} {name}": step_variant(compute, states, head=used, targets=targets)
            for name, compute, used in (
                (REFERENCE, plain_losses, head),
                ("chunked", head_losses, head),
                ("chunked, oneDNN layout", head_losses, onednn_head),
            )
        },
        rounds,
    )
    return compare(samples, reference=f"{precision} {REFERENCE}", unit="tokens/s", targets={})


def main(
    rows: Annotated[int, typer.Option(help="Number of supervised tokens.", min=1)] = 430,
    width: int = 768,
    words: int = 50_272,
    rounds: Rounds = 11,
    json: JsonFile = None,
) -> None:
    """Compare implementations of the loss and its gradient."""
    torch.manual_seed(0)
    lines = [
        line
        for precision in ("fp32", "bf16")
        for line in lines_for(precision, rows=rows, width=width, words=words, rounds=rounds)
    ]
    Result("Loss at a frozen LM head", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
