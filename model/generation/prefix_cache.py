"""Key/value cache of generation: keys and values of [an image's prefix | the text] per layer."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, DynamicLayer, OPTForCausalLM

from epalm.model.engine.packed_attention import TextDependentToken
from epalm.model.epalm import EPALM

CACHE_ARGUMENT = (
    "cache"
    if "cache" in inspect.signature(OPTForCausalLM.forward).parameters
    else "past_key_values"
)
"""Cache argument of `forward` and `generate`: transformers 5.24 renamed `past_key_values`."""


class PrefixLayer(DynamicLayer):
    """Keys and values of one layer, beginning with those of the prefix.

    Attributes:
        keys: (sequences, key-value heads, positions, head width).
        values: (sequences, key-value heads, positions, head width).
        prefix_length: number of positions before the text.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, prefix_length: int) -> None:
        """Initialize the layer with keys and values."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.prefix_length = keys, values, prefix_length
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Number of text tokens, the only ones that have positions and a mask."""
        return int(self.keys.shape[2]) - self.prefix_length

    def select(self, sequences: Tensor) -> "PrefixLayer":
        """A copy of the given sequences (R) int64."""
        keys, values = (part.index_select(0, sequences) for part in (self.keys, self.values))
        return PrefixLayer(keys, values, self.prefix_length)


class PrefixCache(Cache):
    """Cache for the language model's `forward` that begins with the prefixes of images.

    Each sequence is a text after an image. Sequences with the same image or the same prompt are
    copies of a cache that was computed once.
    """

    def __init__(
        self,
        layers: Sequence[PrefixLayer],
        *,
        image_index: Tensor,
        mask: Tensor | None = None,
        text_dependent: TextDependentToken | None = None,
    ) -> None:
        """Create a cache from its layers.

        Args:
            layers: one per layer of the language model.
            image_index: (sequences) int64, the image of each sequence, as `text_dependent` numbers
                them.
            mask: (sequences, T) int64 attention mask of the left-padded text, or None without
                padding.
            text_dependent: the visual token whose last state depends on the text, or none.
        """
        super().__init__(layers=list(layers))
        self.prefixed = list(layers)
        self.image_index, self.mask, self.text_dependent = image_index, mask, text_dependent

    @classmethod
    def from_features(cls, model: EPALM, features: Tensor) -> "PrefixCache":
        """A cache with one sequence per image, without text.

        Args:
            model: model in eval mode.
            features: (G, L, D) stored features.

        Raises:
            ModelError: the plan does not allow cached generation, see `EPALM.prefix`.
        """
        prefix = model.prefix(features)
        parts = model.parts
        shape = len(features), parts.key_value_heads, 0, parts.head_width
        empty = torch.empty(shape, dtype=parts.dtype, device=features.device)
        pairs = [layer or (empty, empty) for layer in prefix.layers]
        layers = [PrefixLayer(keys, values, keys.shape[2]) for keys, values in pairs]
        image_index = torch.arange(len(features), device=features.device)
        return cls(layers, image_index=image_index, text_dependent=prefix.text_dependent)

    def select(self, sequences: Tensor, mask: Tensor | None = None) -> "PrefixCache":
        """A copy of the given sequences.

        Args:
            sequences: (R) int64, indices in any order, repeated or not.
            mask: (R, T) int64 attention mask of the left-padded text that comes next; None if
                there is no padding, or to copy the masks of the sequences.
        """
        if mask is None and self.mask is not None:
            mask = self.mask[sequences]
        return PrefixCache(
            [layer.select(sequences) for layer in self.prefixed],
            image_index=self.image_index[sequences],
            mask=mask,
            text_dependent=self.text_dependent,
        )

    def keep_first(self, count: int) -> None:
        """Remove all but the first `count` sequences."""
        self.image_index = self.image_index[:count]
        self.mask = None if self.mask is None else self.mask[:count]
        for layer in self.prefixed:
            layer.keys, layer.values = layer.keys[:count], layer.values[:count]

    def next_positions(self, count: int) -> Tensor:
        """(sequences, count) int64, positions of the next text tokens; padding has position 0."""
        start = self.get_seq_length()
        mask = self.text_mask(start + count)
        if mask is None:
            positions = torch.arange(start, start + count, device=self.image_index.device)
            return positions.expand(len(self.image_index), count)
        return (mask.cumsum(1) - 1).clamp(min=0)[:, start:]

    def text_mask(self, length: int) -> Tensor | None:
        """(sequences, length) int64 mask of the text's first positions, or None without padding."""
        if self.mask is None:
            return None
        return pad(self.mask[:, :length], (0, max(length - self.mask.shape[1], 0)), value=1)

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *args: Any,  # noqa: ANN401 - transformers' signature
        **kwargs: Any,  # noqa: ANN401 - transformers' signature
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values, and update the text-dependent token for the last layer.

        Args:
            key_states: (sequences, key-value heads, new, head width).
            value_states: (sequences, key-value heads, new, head width).
            layer_idx: index of the layer.
            args: not used.
            kwargs: not used.

        Returns:
            All keys and values of the layer.
        """
        keys, values = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if self.text_dependent is not None and layer_idx == self.text_dependent.layer:
            layer = self.prefixed[layer_idx]
            mask = self.text_mask(layer.get_seq_length())
            if mask is not None:
                mask = pad(mask.bool(), (layer.prefix_length, 0), value=True)[:, None, None]
            self.text_dependent.update(keys, values, mask, image_index=self.image_index)
            self._replace_first(layer_idx + 1, *self.text_dependent.state)
        return keys, values

    def _replace_first(self, layer_idx: int, keys: Tensor, values: Tensor) -> None:
        """Replace a layer's first positions, (sequences, heads, count, head width)."""
        layer, count = self.prefixed[layer_idx], keys.shape[2]
        layer.keys = torch.cat([keys, layer.keys[:, :, count:]], dim=2)
        layer.values = torch.cat([values, layer.values[:, :, count:]], dim=2)
