"""The soft prompt: trainable vectors in front of the word embeddings."""

import torch
from torch import Tensor, nn


class SoftPrompt(nn.Module):
    """P trainable vectors of the word embedding's width w, plain or through a two-layer MLP.

    The released code's default: N(0, 1) vectors through Linear(w, w), tanh, Linear(w, w).
    Prompt rows get no position embedding and pass `project_in` where the model has one (OPT-350M).
    """

    def __init__(self, length: int, width: int, *, hidden: int) -> None:
        """Draw the vectors.

        Args:
            length: P.
            width: w, `word_embed_proj_dim` of the language model.
            hidden: width of the MLP's inner layer; 0 for the plain vectors ("light" prompt).
        """
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(length, width))
        self.mlp = (
            nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))
            if hidden
            else None
        )

    def forward(self) -> Tensor:
        """(P, w), float32."""
        return self.embedding if self.mlp is None else self.mlp(self.embedding)
