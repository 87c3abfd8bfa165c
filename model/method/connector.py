"""Connectors: affine maps from the encoder's width to the language model's."""

from torch import Tensor, nn

from epalm.errors import ModelError


class Connectors(nn.Module):
    """One affine map per cached vector, or one for all (section 3.2 of the paper)."""

    def __init__(self, encoder_width: int, language_width: int, count: int) -> None:
        """PyTorch's default initialisation, as in the released code.

        Args:
            encoder_width: D.
            language_width: H.
            count: L for one map per cached vector, 1 for a shared one.
        """
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(encoder_width, language_width) for _ in range(count))

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """(B, L, D) to L tensors of (B, H), float32.

        Raises:
            ModelError: there are neither L maps nor one.
        """
        cached = tokens.shape[1]
        if len(self.maps) not in (1, cached):
            raise ModelError(f"{cached} cached vectors meet {len(self.maps)} connectors")
        maps = list(self.maps) if len(self.maps) == cached else [self.maps[0]] * cached
        return [connect(tokens[:, index].float()) for index, connect in enumerate(maps)]
