"""Connectors: affine maps from the encoder's width to the language model's."""

from torch import Tensor, nn

from epalm.errors import ModelError


class Connectors(nn.Module):
    """One affine map per cached feature, or a shared one (section 3.2 of the paper)."""

    def __init__(
        self, encoder_width: int, language_width: int, count: int, *, visual_tokens: int = 1
    ) -> None:
        """Create the maps with PyTorch's default initialization, as the official implementation.

        Args:
            encoder_width: D.
            language_width: H.
            count: number of maps, one per cached feature or 1 for a shared map.
            visual_tokens: number of tokens of a cached feature, V.
        """
        super().__init__()
        self.encoder_width = encoder_width
        self.visual_tokens = visual_tokens
        self.maps = nn.ModuleList(nn.Linear(encoder_width, language_width) for _ in range(count))

    def forward(self, features: Tensor) -> list[Tensor]:
        """Map the features of G images to one tensor (G * V, H) per cached feature, float32.

        Args:
            features: (G, cached features * V, D), the tokens of a feature one after the other.

        Raises:
            ModelError: the number of maps is neither that of the cached features nor 1.
        """
        features = features.unflatten(1, (-1, self.visual_tokens)).transpose(1, 2).flatten(0, 1)
        cached = features.shape[1]
        if len(self.maps) not in (1, cached):
            raise ModelError(f"found {len(self.maps)} connectors for {cached} cached features")
        maps = list(self.maps) if len(self.maps) == cached else [self.maps[0]] * cached
        return [connect(features[:, index].float()) for index, connect in enumerate(maps)]
