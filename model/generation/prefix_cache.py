"""The cache of generation: per layer the keys and values of [a picture's prefix | the text]."""

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
"""What `forward` and `generate` call the cache: transformers 5.24 renamed `past_key_values`."""


class PrefixLayer(DynamicLayer):
    """One layer's keys and values, of which the first positions are no text.

    Attributes:
        keys: (rows, heads, positions, head width).
        values: likewise.
        before: positions in front of the text.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, before: int) -> None:
        """Start with what is known."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.before = keys, values, before
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Tokens of text: all that a mask or a position number is about."""
        return int(self.keys.shape[2]) - self.before

    def branch(self, rows: Tensor) -> "PrefixLayer":
        """A copy of some rows."""
        keys, values = (part.index_select(0, rows) for part in (self.keys, self.values))
        return PrefixLayer(keys, values, self.before)


class PrefixCache(Cache):
    """What `OPTForCausalLM.forward` takes as its cache, behind pictures.

    A row is one text with its picture. Behind the same picture or the same prompt, rows branch off
    from what was computed once.
    """

    def __init__(
        self,
        layers: Sequence[PrefixLayer],
        *,
        pictures: Tensor,
        mask: Tensor | None = None,
        carry: TextDependentToken | None = None,
    ) -> None:
        """Put layers together.

        Args:
            layers: one per layer of the language model.
            pictures: (rows) int64, the picture of each row, as `carry` numbers them.
            mask: (rows, T) int64 of the left-padded text, or None without padding.
            carry: the visual row whose last state depends on the text.
        """
        super().__init__(layers=list(layers))
        self.prefixed = list(layers)
        self.pictures, self.mask, self.carry = pictures, mask, carry

    @classmethod
    def of_pictures(cls, model: EPALM, tokens: Tensor) -> "PrefixCache":
        """One row per picture, without text.

        Args:
            model: in eval mode.
            tokens: (G, L, D) stored vectors.

        Raises:
            ModelError: see `EPALM.prefix`.
        """
        prefix = model.prefix(tokens)
        config = model.language_model.config
        heads = config.num_attention_heads
        shape = len(tokens), heads, 0, config.hidden_size // heads
        nothing = torch.empty(shape, dtype=model.language_model.dtype, device=tokens.device)
        made = [layer or (nothing, nothing) for layer in prefix.layers]
        layers = [PrefixLayer(keys, values, keys.shape[2]) for keys, values in made]
        pictures = torch.arange(len(tokens), device=tokens.device)
        return cls(layers, pictures=pictures, carry=prefix.carry)

    def branch(self, rows: Tensor, mask: Tensor | None = None) -> "PrefixCache":
        """A copy of some rows.

        Args:
            rows: (R) int64, which ones, in any order and number.
            mask: (R, T) int64 of left-padded text that comes next; None if there is no padding, or
                for the rows' own.
        """
        if mask is None and self.mask is not None:
            mask = self.mask[rows]
        layers = [layer.branch(rows) for layer in self.prefixed]
        return PrefixCache(layers, pictures=self.pictures[rows], mask=mask, carry=self.carry)

    def keep(self, count: int) -> None:
        """Go on with the first `count` rows alone."""
        self.pictures = self.pictures[:count]
        self.mask = None if self.mask is None else self.mask[:count]
        for layer in self.prefixed:
            layer.keys, layer.values = layer.keys[:count], layer.values[:count]

    def text_mask(self, length: int) -> Tensor | None:
        """(rows, length) int64 of the text's first positions, or None without padding."""
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
        """All keys and values with the new ones; a carried row reads them for the last layer.

        Args:
            key_states: (rows, heads, new, head width).
            value_states: likewise.
            layer_idx: number of the layer.
            args: none.
            kwargs: none.
        """
        keys, values = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if self.carry is not None and layer_idx == self.carry.layer:
            layer = self.prefixed[layer_idx]
            mask = self.text_mask(layer.get_seq_length())
            visible = mask if mask is None else pad(mask.bool(), (layer.before, 0), value=True)
            seen = visible if visible is None else visible[:, None, None]
            self.carry.read(keys, values, seen, index=self.pictures, scaling=1.0)
            self._renew(layer_idx + 1, *self.carry.state)
        return keys, values

    def _renew(self, number: int, keys: Tensor, values: Tensor) -> None:
        """Replace a layer's first positions, (rows, heads, some, head width)."""
        layer, count = self.prefixed[number], keys.shape[2]
        layer.keys = torch.cat([keys, layer.keys[:, :, count:]], dim=2)
        layer.values = torch.cat([values, layer.values[:, :, count:]], dim=2)
