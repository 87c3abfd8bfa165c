"""Connectors of several stores, whose features are joined to one row per image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from epalm.errors import UsageError
from epalm.model.method.connector import Connectors
from epalm.model.method.model_settings import SourceSettings
from epalm.model.method.resampler import Resampler


@dataclass(frozen=True)
class StoreConnectors:
    """The connectors of one store.

    Attributes:
        maps: connectors or resampler.
        source: the features of the store.
        indices: indices of the features that the maps read.
    """

    maps: Connectors | Resampler
    source: SourceSettings
    indices: Sequence[int]


class JoinedConnectors(nn.Module):
    """Applies the connectors of each store to its part of a row.

    Features of several blocks follow each other in the order of the stores and blocks. Where each
    store has one feature, for its last block, their visual tokens are side by side instead.
    """

    def __init__(self, stores: Sequence[StoreConnectors], *, side_by_side: bool) -> None:
        """Join the connectors of stores.

        Args:
            stores: those of each store, in the order of the row.
            side_by_side: whether each store has one feature, whose tokens are side by side.

        Raises:
            UsageError: features that follow each other have different numbers of tokens.
        """
        super().__init__()
        self.parts = nn.ModuleList(store.maps for store in stores)
        self.side_by_side = side_by_side
        self._sources = [store.source for store in stores]
        for number, store in enumerate(stores):
            indices = torch.tensor(store.indices)
            self.register_buffer(f"indices_{number}", indices, persistent=False)
        counts = [store.maps.visual_tokens for store in stores]
        if not side_by_side and len(set(counts)) > 1:
            raise UsageError(
                f"the stores have {' and '.join(map(str, counts))} tokens for each block, and this "
                "variant injects the blocks one after the other, which needs the same number: "
                "extract with the same --tokens, or give --variant limber, limber-all or resampler"
            )
        self.visual_tokens = sum(counts) if side_by_side else counts[0]

    @property
    def row_width(self) -> int:
        """W, number of numbers in the row of an image."""
        return sum(source.features * source.encoder_width for source in self._sources)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Map rows (G, 1, W) to one tensor (G * V, H) per feature, float32."""
        rows, start, outputs = features.flatten(1), 0, []
        for number, (maps, source) in enumerate(zip(self.parts, self._sources, strict=True)):
            stop = start + source.features * source.encoder_width
            own = rows[:, start:stop].unflatten(1, (source.features, source.encoder_width))
            outputs.append(maps(own.index_select(1, self.get_buffer(f"indices_{number}"))))
            start = stop
        if not self.side_by_side:
            return [states for states_of_store in outputs for states in states_of_store]
        images = [states.unflatten(0, (len(features), -1)) for (states,) in outputs]
        return [torch.cat(images, dim=1).flatten(0, 1)]


AnyConnectors: TypeAlias = Connectors | Resampler | JoinedConnectors
