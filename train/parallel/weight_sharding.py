"""Frozen weights sharded across processes: each keeps a part of every decoder layer.

A layer is complete on a device only while it computes. Embeddings, head and trainable tensors are
replicated in every process, and gradients are averaged as without sharding. Since a layer's weights
come from all processes, all have to run the same layers equally often: a process whose shard of a
batch is empty computes `dummy_batch`, see also `epalm.train.validation` and
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
from epalm.train.parallel.launcher_check import NEEDS_SEVERAL


def check_world_size(group: Group, recipe: Recipe) -> None:
    """Refuse more processes than a batch has examples.

    Raises:
        UsageError: names both numbers.
    """
    if group.world_size > recipe.batch_size:
        raise UsageError(
            f"{group.world_size} processes cannot divide batches of {recipe.batch_size} examples: "
            "start fewer, or raise it with --set batch_size=..."
        )


def layer_sharder(group: Group, device: str, recipe: Recipe) -> Callable[[nn.Module], object]:
    """The function that shards a decoder layer across the processes (PyTorch's FSDP2).

    Raises:
        UsageError: there is one process only, or the weights cannot be sharded.
    """
    if group.world_size == 1:
        raise UsageError(NEEDS_SEVERAL)
    if recipe.lm_precision in QUANTIZED:
        raise UsageError(
            f"--shard-weights cannot shard {recipe.lm_precision} weights: give --precision bf16, "
            "or leave the option out"
        )
    if find_variant(recipe.variant).language_model == "trained":
        raise UsageError(
            f"--shard-weights shards frozen weights, variant {recipe.variant!r} trains them: "
            "leave the option out"
        )
    if recipe.tail == "official":
        raise UsageError(
            "--shard-weights does not work with tail 'official', whose generation enters a layer "
            "while it computes: use tail 'causal' or 'drop', or leave the option out"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (group.world_size,))
    return partial(fully_shard, mesh=mesh, reshard_after_forward=True)


def dummy_batch(layers: int, width: int) -> Batch:
    """One example without supervision: all layers run, every gradient is zero.

    Args:
        layers: L, cached layers of a sample.
        width: D, width of the encoder.
    """
    ids = torch.zeros(1, 2, dtype=torch.long)
    return Batch(
        features=torch.zeros(1, layers, width),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=torch.full_like(ids, IGNORED),
        image_index=torch.zeros(1, dtype=torch.long),
    )
