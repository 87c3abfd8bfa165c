"""Memory of decoder layers, traced on the meta device: tensors with shapes and without data.

A layer runs forward and backward with attention replaced, once for each of two numbers of tokens.
The difference is what its tokens take; the rest are constants such as weights. So a layer of any
family is measured, whatever its norms, activations and adapters keep. What attention takes between
tokens is computed by `epalm.train.estimate.attention_memory`.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from epalm.model.engine.losses import CHUNK_TOKENS, head_losses
from epalm.model.engine.packed_attention import AttentionProbe, keys_and_values
from epalm.model.families.decoder_parts import DecoderParts, Rotations
from epalm.train.estimate.storage_tracking import LiveStorages, SavedStorages

TRACED_TOKENS = 32
"""Number of tokens of the first run; the second has twice as many."""


@dataclass(frozen=True)
class TokenMemory:
    """Bytes that a computation takes for each token.

    Attributes:
        saved: bytes saved for backward.
        working: bytes at the time when most are allocated, without those saved.
    """

    saved: float
    working: float


@dataclass(frozen=True)
class LayerTrace:
    """Memory of a layer without that of attention between tokens.

    Attributes:
        memory: bytes for each token; dropout masks have the hidden states' dtype, as on a CPU.
        attention_dropout: whether attention weights are dropped.
    """

    memory: TokenMemory
    attention_dropout: bool


@dataclass(frozen=True)
class LayerMode:
    """How a layer is run.

    Attributes:
        dtype: dtype of the hidden states.
        dropout: whether the language model is in train mode.
        differentiable: whether its input requires a gradient.
        only_keys: whether the layer ends after its keys and values.
    """

    dtype: torch.dtype
    dropout: bool = False
    differentiable: bool = True
    only_keys: bool = False


def trace_layer(parts: DecoderParts, index: int, mode: LayerMode) -> LayerTrace:
    """The trace of a layer; layers of equal structure share it.

    Args:
        parts: parts of a language model on the meta device.
        index: index of the layer.
        mode: how it is run.
    """
    return _trace_layer(parts, first_equal(parts)[index], mode)


@lru_cache(maxsize=16)
def first_equal(parts: DecoderParts) -> Sequence[int]:
    """For each layer, the index of the first layer with the same modules and adapters."""
    first: dict[tuple[str, int], int] = {}
    hooks = (
        sum(len(module._forward_hooks) for module in layer.modules()) for layer in parts.layers
    )
    kinds = zip(map(str, parts.layers), hooks, strict=True)
    return [first.setdefault(kind, index) for index, kind in enumerate(kinds)]


@lru_cache(maxsize=64)
def _trace_layer(parts: DecoderParts, index: int, mode: LayerMode) -> LayerTrace:
    layer = deepcopy(parts.layers[index]).to(mode.dtype).train(mode.dropout)
    single = replace(parts, layers=nn.ModuleList([layer]), kinds=(parts.kinds[index],))
    probe, rotations = AttentionProbe(), _rotations(single, 2 * TRACED_TOKENS, mode.dtype)
    on_meta = {name: (cos.to("meta"), sin.to("meta")) for name, (cos, sin) in rotations.items()}

    def run(hidden: Tensor) -> Tensor:
        count = len(hidden)
        first = {name: (cos[:, :count], sin[:, :count]) for name, (cos, sin) in on_meta.items()}
        if mode.only_keys:
            own = first.get(single.kinds[0].name)
            return torch.cat(keys_and_values(layer.forward, hidden.unsqueeze(0), own), dim=-1)
        return single.run_layer(0, hidden.unsqueeze(0), first, probe=probe)

    shared = [part for pair in on_meta.values() for part in pair]
    memory = _trace(run, TRACED_TOKENS, hidden_width(parts), mode, excluded=shared)
    return LayerTrace(memory, attention_dropout=not mode.only_keys and probe.dropout > 0)


@lru_cache(maxsize=16)
def trace_head(parts: DecoderParts, dtype: torch.dtype) -> TokenMemory:
    """Memory of the final norm, the head and the losses, for each supervised token of a chunk."""
    norm, projection, head = (
        None if part is None else deepcopy(part).to(dtype)
        for part in (parts.final_norm, parts.project_out, parts.head)
    )
    assert isinstance(head, nn.Linear)
    ends = replace(parts, final_norm=norm, project_out=projection)

    def run(states: Tensor) -> Tensor:
        targets = torch.zeros(len(states), dtype=torch.long, device="meta")
        return head_losses(ends.before_head(states), head, targets, softcap=ends.logit_softcap)

    return _trace(run, CHUNK_TOKENS // 2, hidden_width(parts), LayerMode(dtype))


def rotation_bytes(parts: DecoderParts, dtype: torch.dtype) -> int:
    """Bytes of a token's rotations, which all layers with the same tokens share."""
    distinct = {id(pair): pair for pair in _rotations(parts, 1, dtype).values()}
    return sum(part.nbytes for pair in distinct.values() for part in pair)


def hidden_width(parts: DecoderParts) -> int:
    """H, width of the hidden states."""
    config: Any = parts.body.config
    return int(config.hidden_size)


def _trace(
    run: Callable[[Tensor], Tensor],
    tokens: int,
    size: int,
    mode: LayerMode,
    *,
    excluded: Sequence[Tensor] = (),
) -> TokenMemory:
    """Memory of `run` and its backward pass for each further token of its input (tokens, size)."""
    totals = []
    for count in (tokens, 2 * tokens):
        saved, live = SavedStorages(excluded), LiveStorages(excluded)
        with live:
            states = torch.empty(count, size, dtype=mode.dtype, device="meta")
            states.requires_grad_(mode.differentiable)
            with torch.autograd.graph.saved_tensors_hooks(saved, _unchanged):
                output = run(states)
            if mode.differentiable:
                torch.autograd.grad(output, states, torch.empty_like(output))
        totals.append((saved.nbytes, live.peak))
    (few_saved, few_peak), (many_saved, many_peak) = totals
    kept, peak = ((many_saved - few_saved) / tokens, (many_peak - few_peak) / tokens)
    return TokenMemory(kept, peak - kept)


def _rotations(parts: DecoderParts, tokens: int, dtype: torch.dtype) -> Rotations:
    """Rotations on a CPU: some families' depend on the value of the last position."""
    if parts.rotary is None:
        return {}
    rotary = type(parts.rotary)(parts.rotary.config)
    states = torch.empty(0, dtype=dtype)
    return replace(parts, rotary=rotary).rotations(states, torch.arange(tokens))


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor
