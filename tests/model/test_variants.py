"""Trained parameters of the published variants, as exact integers."""

import pytest
import torch
from torch import nn

from epalm.errors import UsageError
from epalm.model.connector import Connectors
from epalm.model.prompt import SoftPrompt
from epalm.model.variants import VARIANTS, find_variant

WIDTHS = {
    "ViT-B+2.7B": (768, 2560, 2560),
    "ViT-L+6.7B": (1024, 4096, 4096),
    "350M": (768, 1024, 512),
}
COUNTS = {  # section 2 of the method's description
    "lin": (1_968_640, 4_198_400, 787_456),
    "6-connectors": (11_811_840, 25_190_400, 4_724_736),
    "pt": (15_106_560, 37_801_984, 1_317_888),
    "pt-light": (1_994_240, 4_239_360, 792_576),
    "full": (24_949_760, 58_793_984, 5_255_168),
    "full-light": (11_837_440, 25_231_360, 4_729_856),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_trained_parameters_are_the_published_numbers(name: str) -> None:
    variant = find_variant(name)
    found = []
    for encoder, hidden, embedding in WIDTHS.values():
        with torch.device("meta"):
            parts: list[nn.Module] = [
                Connectors(encoder, hidden, 1 if variant.shared_connector else 6)
            ]
            if variant.prompt:
                parts.append(SoftPrompt(10, embedding, hidden=embedding * variant.prompt_mlp))
        found.append(sum(weight.numel() for part in parts for weight in part.parameters()))
    assert tuple(found) == COUNTS[name]


def test_an_unknown_variant_lists_the_known() -> None:
    with pytest.raises(UsageError, match="'ada9' is unknown; known are lin"):
        find_variant("ada9")
