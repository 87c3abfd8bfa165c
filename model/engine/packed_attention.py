"""Attention over packed tokens: gather them into sequences, attend, scatter the result back.

Generation uses the same function; there each text comes after the cached keys and values of an
image.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

from epalm.errors import ModelError
from epalm.model.engine.packing import PackedLayout
from epalm.model.families.decoder_parts import DecoderParts, capped

ATTENTION = "epalm"
"""Name of the attention function in transformers' registry."""

SHORT_SEQUENCE = 64
"""On a CPU, sequences shorter than this use plain batched matrix products: PyTorch's fused kernel
is slower there, 7 times in bfloat16 with the backward pass (B 64, 6 heads, 28 positions)."""


class LayerStopped(Exception):
    """Raised by attention after the keys and values have been computed."""


@dataclass
class AttentionProbe:
    """Replaces attention in a decoder layer, and records the layer's query, key and value.

    Attributes:
        attended: (1, N, heads, head width) output to return in place of attention's; None if the
            output does not matter.
        query: (1, heads, N, head width), set by the forward pass.
        key: (1, key-value heads, N, head width), set by the forward pass.
        value: values in the keys' shape, set by the forward pass.
        scores: how the layer computes scores, set by the forward pass.
        stop: whether the layer ends there by raising `LayerStopped`.
    """

    attended: Tensor | None = None
    stop: bool = False
    query: Tensor = field(init=False)
    key: Tensor = field(init=False)
    value: Tensor = field(init=False)
    scores: "ScoreSettings" = field(init=False)
    dropout: float = field(init=False)


@dataclass(frozen=True)
class ScoreSettings:
    """How a layer computes attention scores.

    Attributes:
        scaling: factor on the products of queries and keys.
        softcap: bound of the scores, or none.
    """

    scaling: float
    softcap: float | None = None


@dataclass
class TextDependentToken:
    """A visual token that attends to the text and is read only by the last layer (tail "official").

    The text grows, so this token's keys and values at the last layer are recomputed in each
    generation step. No other token that later steps need depends on it, so all others are cached.

    Attributes:
        layer: layer in which it attends to the text; the next layer is the last one.
        query: (images, heads, 1, head width) its query at that layer.
        scores: how that layer computes attention scores.
        advance: maps its attention output (B, 1, heads, head width) and the image of each sequence
            (B) to its keys and values at the last layer, (B, key-value heads, 1, head width) each.
        state: these keys and values in the current step.
    """

    layer: int
    query: Tensor
    scores: ScoreSettings
    advance: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    state: tuple[Tensor, Tensor] = field(init=False)

    def update(
        self,
        key: Tensor,
        value: Tensor,
        visible: Tensor | None,
        *,
        image_index: Tensor,
    ) -> None:
        """Attend to the whole text so far, and set `state`.

        Args:
            key: (B, key-value heads, K, head width), keys of prefix and text.
            value: (B, key-value heads, K, head width), values of prefix and text.
            visible: (B, 1, 1, K) bool, positions that the newest text token sees; None for all.
            image_index: (B) int64, the image of each sequence.
        """
        query = self.query.index_select(0, image_index)
        attended = _attention(query, key, value, visible, scores=self.scores, dropout=0.0)
        self.state = self.advance(attended, image_index)


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the tokens before the text, per layer, computed once per image.

    Attributes:
        layers: per layer (keys, values), (images, key-value heads, positions, head width) each, or
            None for a layer without tokens before the text.
        text_dependent: the visual token, if its last state depends on the text.
    """

    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    text_dependent: TextDependentToken | None = None


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    layout: PackedLayout | None = None,
    probe: AttentionProbe | None = None,
    memory: tuple[Tensor, Tensor] | None = None,
    **ignored: Any,  # noqa: ANN401 - transformers passes what other attention functions need
) -> tuple[Tensor, None]:
    """Attention over packed tokens (with `layout`), or over sequences after a cached prefix.

    Args:
        module: the calling attention module.
        query: (1, heads, N, head width) with a layout, otherwise (B, heads, Q, head width).
        key: (1, key-value heads, N, head width) with a layout, otherwise (B, key-value heads, K,
            head width), the keys of all positions so far.
        value: values in the keys' shape.
        attention_mask: (B, 1, Q, text) bool over the last positions of the keys, where all earlier
            positions are visible; None if all positions are. Not used with a layout.
        scaling: factor on the products of queries and keys; None for head width ** -0.5.
        dropout: dropout probability of the attention weights.
        softcap: bound of the attention scores, or none.
        layout: mapping between tokens and sequences.
        probe: replaces attention.
        memory: keys and values of packed tokens without a query, before those of the others.
        ignored: arguments of other attention functions.

    Returns:
        (B, Q, heads, head width), with batch 1 for a layout; and None for the attention weights.
    """
    del ignored
    scores = ScoreSettings(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)
    if probe is not None:
        probe.query, probe.key, probe.value, probe.scores = query, key, value, scores
        probe.dropout = dropout
        if probe.stop:
            raise LayerStopped
        return query.transpose(1, 2) if probe.attended is None else probe.attended, None
    if layout is not None:
        if memory is not None:
            key, value = torch.cat([memory[0], key], dim=2), torch.cat([memory[1], value], dim=2)
        query, key, value = _to_sequences(query, key, value, layout)
        attention_mask = layout.visible
        if layout.captured is not None:
            layout.captured[int(module.layer_idx)] = key, value  # type: ignore[arg-type]
    elif attention_mask is not None:
        prefix_length = key.shape[2] - attention_mask.shape[3]
        attention_mask = pad(attention_mask, (prefix_length, 0), value=True)
    attended = _attention(query, key, value, attention_mask, scores=scores, dropout=dropout)
    if layout is not None:
        attended = attended.flatten(0, 1).index_select(0, layout.slot_of_token).unsqueeze(0)
    return attended, None


def text_dependent_token(parts: DecoderParts, states: Tensor, position: int) -> TextDependentToken:
    """The visual token between the last two layers.

    Args:
        parts: parts of the language model.
        states: (images, H) hidden states of the token that enter the last layer but one.
        position: position of the token, a negative number.
    """
    last = len(parts.layers) - 1
    rotations = parts.rotations(states, torch.tensor([position], device=states.device))
    input_probe = AttentionProbe()
    parts.run_layer(last - 1, states.unsqueeze(0), rotations, probe=input_probe)

    def advance(attended: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        inputs = states.index_select(0, image_index).unsqueeze(0)
        input_read = AttentionProbe(attended.transpose(0, 1))
        hidden = parts.run_layer(last - 1, inputs, rotations, probe=input_read)
        output_probe = AttentionProbe()
        parts.run_layer(last, hidden, rotations, probe=output_probe)
        return _by_sequence(output_probe.key), _by_sequence(output_probe.value)

    query = _by_sequence(input_probe.query)
    return TextDependentToken(last - 1, query, input_probe.scores, advance)


def _by_sequence(packed: Tensor) -> Tensor:
    """(1, heads, N, head width) of one token per sequence to (N, heads, 1, head width)."""
    return packed[0].transpose(0, 1).unsqueeze(2)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    *,
    scores: ScoreSettings,
    dropout: float,
) -> Tensor:
    """Scaled dot-product attention over sequences, (B, Q, heads, head width).

    Each head of the keys and values serves a group of query heads.
    """
    key, value = (repeat_kv(part, query.shape[1] // part.shape[1]) for part in (key, value))
    short = query.device.type == "cpu" and key.shape[2] < SHORT_SEQUENCE
    if short or scores.softcap is not None:  # no fused kernel has a bound of the scores
        products = capped(scores.scaling * (query @ key.transpose(2, 3)), scores.softcap)
        if visible is not None:
            products = products.masked_fill(~visible, torch.finfo(products.dtype).min)
        weights = softmax(products, dim=-1, dtype=torch.float32).to(value.dtype)
        attended = nn.functional.dropout(weights, dropout) @ value
    else:
        attended = scaled_dot_product_attention(
            query, key, value, attn_mask=visible, dropout_p=dropout, scale=scores.scaling
        )
    return attended.transpose(1, 2)


def _to_sequences(
    query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout
) -> tuple[Tensor, Tensor, Tensor]:
    """(1, heads, N, head width) to (B, heads, slots, head width)."""
    own = layout.query_of_slot
    query = _gather(query, layout.token_of_slot if own is None else own, layout)
    key, value = (_gather(part, layout.token_of_slot, layout) for part in (key, value))
    return query, key, value


def _gather(packed: Tensor, indices: Tensor, layout: PackedLayout) -> Tensor:
    """(1, heads, N, head width) to (B, heads, slots, head width)."""
    by_token = packed[0].transpose(0, 1)
    slots = by_token.index_select(0, indices)
    batch = len(layout.visible)
    return slots.view(batch, len(indices) // batch, *by_token.shape[1:]).transpose(1, 2)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:  # noqa: ANN401 - transformers' own signature
    """An explicit mask, since SDPA's own causal mask is misaligned after a prefix.

    None for a single query that sees all positions, as transformers decides.
    """
    single_query = kwargs["q_length"] == 1
    mask: Tensor | None = sdpa_mask(*args, **(kwargs | {"allow_is_causal_skip": single_query}))
    return mask


def add_only_keys(layers: Iterable[nn.Module]) -> None:
    """Let layers take tokens that are keys and values only: `only_keys` and their rotations.

    Each layer then first computes the keys and values of these tokens, and neither their queries'
    attention nor their feed-forward. Both computations are one call of the layer, so that hooks,
    activation checkpointing and sharding treat them together. Layers that take them already stay as
    they are.
    """
    for layer in layers:
        if getattr(layer.forward, "func", None) is not _with_only_keys:
            layer.forward = partial(_with_only_keys, layer.forward)


def _with_only_keys(
    forward: Callable[..., Any],
    *args: Any,  # noqa: ANN401 - arguments of a decoder layer
    only_keys: Tensor | None = None,
    key_rotations: tuple[Tensor, Tensor] | None = None,
    **kwargs: Any,  # noqa: ANN401 - arguments of a decoder layer
) -> Any:  # noqa: ANN401 - output of a decoder layer
    """Run a layer on (1, queries, H) after (1, tokens, H) that are keys and values only."""
    if only_keys is None:
        return forward(*args, **kwargs)
    memory = keys_and_values(forward, only_keys, key_rotations)
    return forward(*args, memory=memory, **kwargs)


def keys_and_values(
    forward: Callable[..., Any], states: Tensor, rotations: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Keys and values of hidden states (1, N, H): (1, key-value heads, N, head width) each.

    Args:
        forward: forward pass of a decoder layer, which ends after these.
        states: the hidden states.
        rotations: their rotations, or none.

    Raises:
        ModelError: the layer has no attention.
    """
    probe = AttentionProbe(stop=True)
    arguments = {} if rotations is None else {"position_embeddings": rotations}
    try:
        forward(states, probe=probe, **arguments)
    except LayerStopped:
        return probe.key, probe.value
    raise ModelError(f"{forward} has computed no attention")


def register_attention() -> None:
    """Register the attention function and its mask with transformers as `ATTENTION`."""
    AttentionInterface.register(ATTENTION, packed_attention)
    AttentionMaskInterface.register(ATTENTION, _mask)
