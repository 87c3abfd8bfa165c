"""Trainable tokens before the text: a soft prompt at one layer or a deep one at every layer."""

import torch
from torch import Tensor, nn


class SoftPrompt(nn.Module):
    """P trainable vectors, plain or through a two-layer MLP.

    The official implementation's default is N(0, 1) vectors through Linear(w, w), tanh,
    Linear(w, w), where w is the width of the word embedding. They enter the language model with the
    embedded text: they have no position embedding and pass through `project_in` where the model has
    one (OPT-350M). A late prompt has the layers' width H and enters before a later layer instead.
    """

    def __init__(self, length: int, width: int, *, hidden: int, layer: int | None = None) -> None:
        """Draw the vectors from N(0, 1).

        Args:
            length: P.
            width: `word_embed_proj_dim` of the language model; H for a late prompt.
            hidden: width of the MLP's hidden layer; 0 for plain vectors (the "light" prompt).
            layer: layer that a late prompt enters; None to enter with the embedded text.
        """
        super().__init__()
        self.layer = layer
        self.embedding = nn.Parameter(torch.randn(length, width))
        self.mlp = (
            nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))
            if hidden
            else None
        )

    @property
    def length(self) -> int:
        """Number of prompt tokens, P."""
        return len(self.embedding)

    @property
    def first(self) -> int:
        """First layer that has prompt tokens."""
        return self.layer or 0

    def entering(self, layer: int) -> Tensor | None:
        """The prompt tokens that enter a layer, (P, H) float32; None to keep those before it."""
        return self() if layer == self.layer else None

    def forward(self) -> Tensor:
        """The prompt's embeddings, (P, width) float32."""
        return self.embedding if self.mlp is None else self.mlp(self.embedding)


class DeepPrompt(nn.Module):
    """P trainable vectors of the language model's width H for every layer from the first one on.

    Each layer reads its own vectors instead of the previous layer's output at the prompt tokens.
    """

    def __init__(self, layers: int, length: int, width: int, *, first: int = 0) -> None:
        """Draw the vectors from N(0, 1), as in `SoftPrompt`.

        Args:
            layers: number of decoder layers.
            length: P.
            width: H.
            first: first layer that has prompt tokens.
        """
        super().__init__()
        self.first = first
        self.embedding = nn.Parameter(torch.randn(layers - first, length, width))

    @property
    def length(self) -> int:
        """Number of prompt tokens, P."""
        return self.embedding.shape[1]

    def entering(self, layer: int) -> Tensor | None:
        """The prompt tokens that enter a layer, (P, H) float32; None below the first layer."""
        return None if layer < self.first else self(layer)

    def forward(self, layer: int) -> Tensor:
        """The prompt tokens of a layer, (P, H) float32."""
        return self.embedding[layer - self.first]
