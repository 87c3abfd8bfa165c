"""The blocks and norms of timm's families of image encoders."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from timm.models.beit import Beit
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.hiera import Hiera
from timm.models.naflexvit import NaFlexVit
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from epalm.extract.encoders.tokens.block_tokens import identity
from epalm.extract.encoders.tokens.model_norms import Norms


@dataclass(frozen=True)
class TimmParts:
    """What an encoder needs of a timm model.

    Attributes:
        blocks: the blocks of all stages, in order.
        norms: the norms of each block's tokens.
        as_tokens: makes (B, tokens, D) of the output of a block.
    """

    blocks: Sequence[nn.Module]
    norms: Sequence[Norms]
    as_tokens: Callable[[Tensor], Tensor] = lambda states: states


class ChannelsFirst(nn.Module):
    """A norm of (B, D, rows, columns) applied to (B, tokens, D)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        """Norm the last axis of (B, tokens, D)."""
        normed: Tensor = self.norm(tokens.transpose(1, 2).unsqueeze(-1))
        return normed.squeeze(-1).transpose(1, 2)


def _of_columns(norm: nn.Module) -> nn.Module:
    return identity() if isinstance(norm, nn.Identity) else ChannelsFirst(norm)


def _plain(model: Any) -> TimmParts:  # noqa: ANN401 - timm's classes have no common interface
    """Vision transformers; their norm is either before or after the pooling."""
    norms = Norms(model.norm, getattr(model, "fc_norm", None) or identity())
    return TimmParts(list(model.blocks), [norms] * len(model.blocks))


def _swin(model: Any) -> TimmParts:  # noqa: ANN401
    """Swin: (B, rows, columns, D); the final norm is that of the last stage."""
    stages = [list(stage.blocks) for stage in model.layers]
    return TimmParts(
        *_last_stage_normed(stages, Norms(model.norm, identity())),
        as_tokens=lambda states: states.flatten(1, 2),
    )


def _convnext(model: Any) -> TimmParts:  # noqa: ANN401
    """ConvNeXt: (B, D, rows, columns); its norm follows the pooling, in some models precedes it."""
    stages = [list(stage.blocks) for stage in model.stages]
    norm, head = model.norm_pre, getattr(model.head, "norm", None) or identity()
    norms = Norms(_of_columns(norm), _of_columns(head))
    return TimmParts(
        *_last_stage_normed(stages, norms),
        as_tokens=lambda states: states.flatten(2).transpose(1, 2),
    )


def _hiera(model: Any) -> TimmParts:  # noqa: ANN401
    """Hiera: tokens in the order of its units, put in the order of rows; norm after the pooling."""
    blocks = list(model.blocks)
    block_of_size = {math.prod(size): number for number, (_, size) in model.reroll.schedule.items()}

    def as_tokens(states: Tensor) -> Tensor:
        grid: Tensor = model.reroll(states, block_of_size[states.shape[1]])
        return grid.flatten(1, -2)

    ends = [-1, *model.stage_ends]
    stages = [blocks[ends[n] + 1 : ends[n + 1] + 1] for n in range(len(ends) - 1)]
    norms = Norms(identity(), getattr(model.head, "norm", None) or identity())
    return TimmParts(*_last_stage_normed(stages, norms), as_tokens=as_tokens)


def _pyramid(model: Any) -> TimmParts:  # noqa: ANN401
    """PVT v2: every stage has a norm of its own."""
    blocks = [block for stage in model.stages for block in stage.blocks]
    norms = [Norms(stage.norm, identity()) for stage in model.stages for _ in stage.blocks]
    return TimmParts(blocks, norms)


def _last_stage_normed(
    stages: Sequence[Sequence[nn.Module]], last: Norms
) -> tuple[list[nn.Module], list[Norms]]:
    """The blocks of all stages, and norms for those of the last stage alone."""
    none = Norms(identity(), identity())
    blocks = [block for stage in stages for block in stage]
    before = len(blocks) - len(stages[-1])
    return blocks, [none] * before + [last] * len(stages[-1])


FAMILIES: dict[type[nn.Module], Callable[[Any], TimmParts]] = {
    VisionTransformer: _plain,
    Eva: _plain,
    Beit: _plain,
    NaFlexVit: _plain,
    SwinTransformer: _swin,
    SwinTransformerV2: _swin,
    ConvNeXt: _convnext,
    Hiera: _hiera,
    PyramidVisionTransformerV2: _pyramid,
}
"""timm's class of a model -> its parts. In CaiT, XCiT and ConViT, the class token is added in the
last blocks only, so that blocks have different tokens."""


def timm_parts(model: nn.Module) -> TimmParts | None:
    """The blocks and norms of a timm model; None if its family is not supported."""
    for family, parts in FAMILIES.items():
        if isinstance(model, family):
            return parts(model)
    return None
