"""Attention over packed tokens: gather them into sequences, attend, scatter the result back.

Generation uses the same function; there each text comes after the cached keys and values of an
image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from epalm.model.engine.packing import PackedLayout

ATTENTION = "epalm"
"""Name of the attention function in transformers' registry."""

SHORT_SEQUENCE = 64
"""On a CPU, sequences shorter than this use plain batched matrix products: PyTorch's fused kernel
is slower there, 7 times in bfloat16 with the backward pass (B 64, 6 heads, 28 positions)."""


@dataclass
class AttentionProbe:
    """Replaces attention in a decoder layer, and records the layer's query, key and value.

    Attributes:
        attended: (1, N, heads, head width) output to return in place of attention's; None if the
            output does not matter.
        query: (1, heads, N, head width), set by the forward pass.
        key: keys in the query's shape, set by the forward pass.
        value: values in the query's shape, set by the forward pass.
    """

    attended: Tensor | None = None
    query: Tensor = field(init=False)
    key: Tensor = field(init=False)
    value: Tensor = field(init=False)


@dataclass
class TextDependentToken:
    """A visual token that attends to the text and is read only by the last layer (tail "official").

    The text grows, so this token's keys and values at the last layer are recomputed in each
    generation step. No other token that later steps need depends on it, so all others are cached.

    Attributes:
        layer: layer in which it attends to the text; the next layer is the last one.
        query: (images, heads, 1, head width) its query at that layer.
        advance: maps its attention output (B, 1, heads, head width) and the image of each sequence
            (B) to its keys and values at the last layer, (B, heads, 1, head width) each.
        state: these keys and values in the current step.
    """

    layer: int
    query: Tensor
    advance: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    state: tuple[Tensor, Tensor] = field(init=False)

    def update(
        self,
        key: Tensor,
        value: Tensor,
        visible: Tensor | None,
        *,
        image_index: Tensor,
        scaling: float,
    ) -> None:
        """Attend to the whole text so far, and set `state`.

        Args:
            key: (B, heads, K, head width), keys of prefix and text.
            value: (B, heads, K, head width), values of prefix and text.
            visible: (B, 1, 1, K) bool, positions that the newest text token sees; None for all.
            image_index: (B) int64, the image of each sequence.
            scaling: factor on the attention scores.
        """
        query = self.query.index_select(0, image_index)
        attended = _attention(query, key, value, visible, scaling=scaling, dropout=0.0)
        self.state = self.advance(attended, image_index)


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the tokens before the text, per layer, computed once per image.

    Attributes:
        layers: per OPT layer (keys, values), (images, heads, positions, head width) each, or None
            for a layer without tokens before the text.
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
    scaling: float,
    dropout: float = 0.0,
    layout: PackedLayout | None = None,
    probe: AttentionProbe | None = None,
    **ignored: Any,  # noqa: ANN401 - transformers passes what other attention functions need
) -> tuple[Tensor, None]:
    """Attention over packed tokens (with `layout`), or over sequences after a cached prefix.

    Args:
        module: the calling OPT attention module.
        query: (1, heads, N, head width) with a layout, otherwise (B, heads, Q, head width).
        key: (1, heads, N, head width) with a layout, otherwise (B, heads, K, head width), the keys
            of all positions so far.
        value: values in the keys' shape.
        attention_mask: (B, 1, Q, text) bool over the last positions of the keys, where all earlier
            positions are visible; None if all positions are. Not used with a layout.
        scaling: factor on the attention scores.
        dropout: dropout probability of the attention weights.
        layout: mapping between tokens and sequences.
        probe: replaces attention.
        ignored: arguments of other attention functions.

    Returns:
        (B, Q, heads, head width), with batch 1 for a layout; and None for the attention weights.
    """
    del ignored
    if probe is not None:
        probe.query, probe.key, probe.value = query, key, value
        return query.transpose(1, 2) if probe.attended is None else probe.attended, None
    if layout is not None:
        query, key, value = (_to_sequences(part, layout) for part in (query, key, value))
        attention_mask = layout.visible
        if layout.captured is not None:
            layout.captured[int(module.layer_idx)] = key, value  # type: ignore[arg-type]
    elif attention_mask is not None:
        prefix_length = key.shape[2] - attention_mask.shape[3]
        attention_mask = pad(attention_mask, (prefix_length, 0), value=True)
    attended = _attention(query, key, value, attention_mask, scaling=scaling, dropout=dropout)
    if layout is not None:
        attended = attended.flatten(0, 1).index_select(0, layout.slot_of_token).unsqueeze(0)
    return attended, None


def text_dependent_token(layers: Sequence[nn.Module], states: Tensor) -> TextDependentToken:
    """The visual token between the last two layers.

    Args:
        layers: all decoder layers.
        states: (images, H) hidden states of the token that enter the last layer but one.
    """
    reading_layer, last_layer = layers[-2:]
    input_probe = AttentionProbe()
    reading_layer(states.unsqueeze(0), probe=input_probe)

    def advance(attended: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        inputs = states.index_select(0, image_index).unsqueeze(0)
        hidden = reading_layer(inputs, probe=AttentionProbe(attended.transpose(0, 1)))
        output_probe = AttentionProbe()
        last_layer(hidden, probe=output_probe)
        return _by_sequence(output_probe.key), _by_sequence(output_probe.value)

    return TextDependentToken(len(layers) - 2, _by_sequence(input_probe.query), advance)


def _by_sequence(packed: Tensor) -> Tensor:
    """(1, heads, N, head width) of one token per sequence to (N, heads, 1, head width)."""
    return packed[0].transpose(0, 1).unsqueeze(2)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    *,
    scaling: float,
    dropout: float,
) -> Tensor:
    """Scaled dot-product attention over sequences, (B, Q, heads, head width)."""
    if query.device.type == "cpu" and key.shape[2] < SHORT_SEQUENCE:
        scores = scaling * (query @ key.transpose(2, 3))
        if visible is not None:
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        weights = softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        attended = nn.functional.dropout(weights, dropout) @ value
    else:
        attended = scaled_dot_product_attention(
            query, key, value, attn_mask=visible, dropout_p=dropout, scale=scaling
        )
    return attended.transpose(1, 2)


def _to_sequences(packed: Tensor, layout: PackedLayout) -> Tensor:
    """(1, heads, N, head width) to (B, heads, S, head width)."""
    by_token = packed[0].transpose(0, 1)
    slots = by_token.index_select(0, layout.token_of_slot)
    batch, _, length, _ = layout.visible.shape
    return slots.view(batch, length, *by_token.shape[1:]).transpose(1, 2)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:  # noqa: ANN401 - transformers' own signature
    """An explicit mask, since SDPA's own causal mask is misaligned after a prefix.

    None for a single query that sees all positions, as transformers decides.
    """
    single_query = kwargs["q_length"] == 1
    mask: Tensor | None = sdpa_mask(*args, **(kwargs | {"allow_is_causal_skip": single_query}))
    return mask


def register_attention() -> None:
    """Register the attention function and its mask with transformers as `ATTENTION`."""
    AttentionInterface.register(ATTENTION, packed_attention)
    AttentionMaskInterface.register(ATTENTION, _mask)
