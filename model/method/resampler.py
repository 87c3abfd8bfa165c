"""Resampler: learned queries that read all tokens of an image through a small transformer.

The blocks follow the Perceiver resampler of Flamingo (Alayrac et al. 2022, section 3.1.1 and its
appendix A.1.1): cross-attention from the queries to the concatenation of tokens and queries, then a
feed-forward network with squared ReLU, both before normalization and without biases. As in the
query pooling of DePALM (Vallaeys et al. 2024), a linear map takes the encoder's tokens to the
resampler's width, and another one takes its outputs to that of the language model.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from epalm.model.method.resampler_shape import ResamplerShape

HEAD_WIDTH = 64
"""Smallest width of an attention head, except in a resampler that is narrower (Flamingo)."""

FEED_FORWARD_FACTOR = 4
"""Width of the feed-forward network's hidden layer over that of the resampler (Flamingo)."""

QUERY_STD = 0.02
"""Standard deviation of the initial queries, as in the Perceiver (Jaegle et al. 2021)."""


class Resampler(nn.Module):
    """Maps the tokens of an image to the visual tokens of one feature."""

    def __init__(self, encoder_width: int, language_width: int, shape: ResamplerShape) -> None:
        """Draw the queries from N(0, `QUERY_STD`); maps have PyTorch's default initialization.

        Args:
            encoder_width: D.
            language_width: H.
            shape: numbers of queries and blocks, and the width inside.
        """
        super().__init__()
        width = shape.width or encoder_width
        self.encoder_width = encoder_width
        self.project_in = nn.Linear(encoder_width, width)
        self.queries = nn.Parameter(QUERY_STD * torch.randn(shape.queries, width))
        self.blocks = nn.ModuleList(ResamplerBlock(width) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(width)
        self.project_out = nn.Linear(width, language_width)

    @property
    def visual_tokens(self) -> int:
        """Number of visual tokens per image, V: one for each query."""
        return len(self.queries)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Map (G, T, D) to one tensor (G * V, H), float32, image by image."""
        tokens = self.project_in(features.float())
        states = self.queries.expand(len(features), -1, -1)
        for block in self.blocks:
            states = block(states, tokens)
        return [self.project_out(self.norm(states)).flatten(0, 1)]


class ResamplerBlock(nn.Module):
    """Cross-attention from queries to tokens and queries, and a feed-forward network."""

    def __init__(self, width: int) -> None:
        """Create the maps with PyTorch's default initialization.

        Args:
            width: width of queries and tokens.
        """
        super().__init__()
        self.heads = head_count(width)
        self.token_norm = nn.LayerNorm(width)
        self.query_norm = nn.LayerNorm(width)
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key_value = nn.Linear(width, 2 * width, bias=False)
        self.to_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, FEED_FORWARD_FACTOR * width, bias=False)
        self.down = nn.Linear(FEED_FORWARD_FACTOR * width, width, bias=False)

    def forward(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Map states (G, Q, width) and tokens (G, T, width) to the next states (G, Q, width)."""
        normed = self.query_norm(states)
        read = torch.cat([self.token_norm(tokens), normed], dim=1)
        keys, values = self.to_key_value(read).chunk(2, dim=-1)
        attended = scaled_dot_product_attention(
            self._split(self.to_query(normed)), self._split(keys), self._split(values)
        )
        states = states + self.to_output(attended.transpose(1, 2).flatten(2))
        hidden: Tensor = self.up(self.ffn_norm(states)).relu().square()
        update: Tensor = self.down(hidden)
        return states + update

    def _split(self, states: Tensor) -> Tensor:
        """(G, N, width) as (G, heads, N, width of a head)."""
        heads: Tensor = states.unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)


def head_count(width: int) -> int:
    """Number of attention heads of at least `HEAD_WIDTH` that divide the width; 1 if none does."""
    most = max(width // HEAD_WIDTH, 1)
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)
