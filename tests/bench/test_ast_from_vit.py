"""`tools.ast_from_vit`: the AST has the weights of the vision transformer."""

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


def test_a_gray_image_gives_the_same_patches_as_three_equal_colors() -> None:
    vit = random_model(TINY.removeprefix("timm:"))
    ast = convert(vit, frames=160, stride=16)
    gray = torch.randn(1, 1, 128, 160)
    patches = ast.embeddings.patch_embeddings(gray[:, 0].transpose(1, 2))
    expected = vit.patch_embed.proj(gray.expand(-1, 3, -1, -1)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches, expected, rtol=0, atol=1e-4)
    assert ast.embeddings.position_embeddings.shape == (1, 2 + 8 * 10, vit.embed_dim)


def test_position_embeddings_of_a_square_of_the_same_size_are_unchanged() -> None:
    vit = timm.create_model("test_vit", img_size=128, num_classes=0)
    ast = convert(vit, frames=128, stride=16)
    torch.testing.assert_close(ast.embeddings.position_embeddings[:, 2:], vit.pos_embed[:, 1:])
