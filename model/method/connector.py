"""Connectors: affine maps from the encoder's width to the language model's."""

from torch import Tensor, nn

from epalm.errors import ModelError


class Connectors(nn.Module):
    """One affine map per cached feature, or a shared one (section 3.2 of the paper)."""

    def __init__(self, encoder_width: int, language_width: int, count: int) -> None:
        """Create the maps with PyTorch's default initialization, as the official implementation.

        Args:
            encoder_width: D.
            language_width: H.
            count: L for one map per cached feature, 1 for a shared map.
        """
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(encoder_width, language_width) for _ in range(count))

    def forward(self, features: Tensor) -> list[Tensor]:
        """Map (B, L, D) to L tensors of (B, H), float32.

        Raises:
            ModelError: the number of maps is neither L nor 1.
        """
        cached = features.shape[1]
        if len(self.maps) not in (1, cached):
            raise ModelError(f"found {len(self.maps)} connectors for {cached} cached features")
        maps = list(self.maps) if len(self.maps) == cached else [self.maps[0]] * cached
        return [connect(features[:, index].float()) for index, connect in enumerate(maps)]
