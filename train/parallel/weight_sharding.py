"""Frozen weights divided among processes: each keeps a part of every decoder layer.

A layer is whole on a device only while it computes. Embeddings, head and trained tensors stay
whole in every process, and gradients are averaged as without sharding. Since a layer's weights
come from all processes, all have to run the same layers equally often: a process without a share
of a batch computes `dummy_batch`, see also `epalm.train.validation` and
`epalm.model.generation.decode`.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from epalm.errors import UsageError
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.engine.quantized import QUANTIZED
from epalm.model.method.variants import find_variant
from epalm.train.config.recipe import Recipe
from epalm.train.parallel.distributed import Group


def check_share(group: Group, recipe: Recipe) -> None:
    """Refuse more processes than a batch has examples.

    Raises:
        UsageError: names both numbers.
    """
    if group.world > recipe.batch_size:
        raise UsageError(
            f"{group.world} processes would share batches of {recipe.batch_size}: "
            "start fewer, or raise it with --set batch_size=..."
        )


def layer_sharder(group: Group, device: str, recipe: Recipe) -> Callable[[nn.Module], object]:
    """What leaves this process's part of a decoder layer on its device (PyTorch's FSDP2).

    Raises:
        UsageError: there is one process only, or the weights cannot be divided.
    """
    if group.world == 1:
        raise UsageError(
            "--shard-weights divides the weights among several processes, found one: start it by "
            "`torchrun --nproc-per-node N --no-python epalm-train ...`, or leave the option out"
        )
    if recipe.lm_precision in QUANTIZED:
        raise UsageError(
            f"--shard-weights cannot divide {recipe.lm_precision} weights: give --precision bf16, "
            "or leave the option out"
        )
    if find_variant(recipe.variant).language_model == "trained":
        raise UsageError(
            f"--shard-weights divides frozen weights, variant {recipe.variant!r} trains them: "
            "leave the option out"
        )
    if recipe.tail == "official":
        raise UsageError(
            "--shard-weights cannot follow tail 'official', whose generation enters a layer while "
            "it computes: use tail 'causal' or 'drop', or leave the option out"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (group.world,))
    return partial(fully_shard, mesh=mesh, reshard_after_forward=True)


def dummy_batch(vectors: int, width: int) -> Batch:
    """One example without supervision: all layers run, every gradient is zero.

    Args:
        vectors: L, stored vectors of a record.
        width: D.
    """
    ids = torch.zeros(1, 2, dtype=torch.long)
    return Batch(
        features=torch.zeros(1, vectors, width),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=torch.full_like(ids, IGNORED),
        image_index=torch.zeros(1, dtype=torch.long),
    )
