"""An AST begun from a vision transformer computes with its blocks."""

import timm
import torch

from tests.extract.encoders.tiny_encoders import layers_of
from tests.extract.helpers import TINY, random_model
from tools.ast_from_vit import convert


def test_the_blocks_and_the_norm_of_the_ast_are_those_of_the_vit() -> None:
    vit = random_model(TINY.removeprefix("timm:"))
    ast = convert(vit, frames=64, stride=10).eval()
    states = torch.randn(2, 9, vit.embed_dim)
    with torch.inference_mode():
        theirs, ours = states, states
        for block, layer in zip(vit.blocks, layers_of(ast), strict=True):
            theirs, ours = block(theirs), layer(ours)
        torch.testing.assert_close(ast.layernorm(ours), vit.norm(theirs), rtol=0, atol=1e-4)


def test_a_grey_picture_gives_the_patches_that_its_three_colours_gave() -> None:
    vit = random_model(TINY.removeprefix("timm:"))
    ast = convert(vit, frames=160, stride=16)
    grey = torch.randn(1, 1, 128, 160)
    patches = ast.embeddings.patch_embeddings(grey[:, 0].transpose(1, 2))
    expected = vit.patch_embed.proj(grey.expand(-1, 3, -1, -1)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches, expected, rtol=0, atol=1e-4)
    assert ast.embeddings.position_embeddings.shape == (1, 2 + 8 * 10, vit.embed_dim)


def test_positions_of_a_square_of_the_same_size_stay_as_they_are() -> None:
    vit = timm.create_model("test_vit", img_size=128, num_classes=0)
    ast = convert(vit, frames=128, stride=16)
    torch.testing.assert_close(ast.embeddings.position_embeddings[:, 2:], vit.pos_embed[:, 1:])
