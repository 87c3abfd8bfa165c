"""Encoders that describe the tokens of their blocks."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from epalm.extract.encoders.encoder_registry import Encoder
from epalm.extract.encoders.tokens.block_tokens import PATCH, Axis, BlockTokens


@runtime_checkable
class TokenSource(Protocol):
    """An encoder that describes the tokens of its blocks.

    Attributes:
        outputs: what the output of each block consists of.
        has_attention_pool: whether the model has an attention pooling of its own.
    """

    outputs: Sequence[BlockTokens]
    has_attention_pool: bool

    def attention_pool(self, batch: Tensor) -> Tensor:
        """The output of the model's own attention pooling, (B, D) float32."""


def outputs_of(encoder: Encoder) -> Sequence[BlockTokens]:
    """What the blocks of an encoder give; an encoder of the user's own has [CLS] at position 0."""
    if isinstance(encoder, TokenSource):
        return encoder.outputs
    tokens = BlockTokens(
        encoder.width,
        special=1,
        class_token=True,
        axes=(Axis(PATCH, encoder.positions - 1),),
        norm=encoder.norm,
    )
    return [tokens] * encoder.depth


def has_attention_pool(encoder: Encoder) -> bool:
    """Whether the model has an attention pooling of its own."""
    return isinstance(encoder, TokenSource) and encoder.has_attention_pool
