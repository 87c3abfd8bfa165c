"""Trainable prompts before the text: a soft prompt at the input or a deep one at every layer."""

import torch
from torch import Tensor, nn


class SoftPrompt(nn.Module):
    """P trainable vectors of the word embedding's width w, plain or through a two-layer MLP.

    The official implementation's default is N(0, 1) vectors through Linear(w, w), tanh,
    Linear(w, w). Prompt tokens have no position embedding and pass through `project_in` where the
    model has one (OPT-350M).
    """

    def __init__(self, length: int, width: int, *, hidden: int) -> None:
        """Draw the vectors from N(0, 1).

        Args:
            length: P.
            width: w, `word_embed_proj_dim` of the language model.
            hidden: width of the MLP's hidden layer; 0 for plain vectors (the "light" prompt).
        """
        super().__init__()
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

    def forward(self) -> Tensor:
        """The prompt's embeddings, (P, w) float32."""
        return self.embedding if self.mlp is None else self.mlp(self.embedding)


class DeepPrompt(nn.Module):
    """P trainable vectors of the language model's width H for every layer.

    Each layer reads its own vectors instead of the previous layer's output at the prompt tokens.
    """

    def __init__(self, layers: int, length: int, width: int) -> None:
        """Draw the vectors from N(0, 1), as in `SoftPrompt`.

        Args:
            layers: number of decoder layers.
            length: P.
            width: H.
        """
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(layers, length, width))

    @property
    def length(self) -> int:
        """Number of prompt tokens, P."""
        return self.embedding.shape[1]

    def forward(self, layer: int) -> Tensor:
        """The prompt tokens that enter a layer, (P, H) float32."""
        return self.embedding[layer]
