"""Models around the tiny language models: all tails, prompts and numbers of visual tokens."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from epalm.model.epalm import EPALM
from epalm.model.families.decoder_parts import decoder_parts
from epalm.model.method.connector import Connectors
from epalm.model.method.injection import InjectionPlan, plan_injection
from epalm.model.method.prompt import SoftPrompt
from tests.model.families.zoo import LAYERS, VOCABULARY, WIDTH
from tests.model.helpers import tiny_variant

CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "causal tail, soft prompt": ("full", {}),
    "drop tail": ("full", {"tail": "drop"}),
    "official tail": ("full", {"tail": "official"}),
    "deep prompt": ("l19-31+deep-prompt", {}),
    "no prompt": ("6-connectors", {}),
    "at the input": ("promptfuse", {}),
    "three visual tokens": ("", {}),
    "late prompt": ("late", {}),
    "late deep prompt": ("late-deep", {"inject": "2:5"}),
}
"""Case -> variant and its settings."""

LENGTHS = (12, 7, 9)
"""Tokens of three texts; the first two are about one image, and all are longer than the window."""


def injected(lm: PreTrainedModel, case: str) -> EPALM:
    """The model of a case, in eval mode."""
    variant, changes = CASES[case]
    return tiny_variant(lm, variant, **changes) if variant else _three_tokens(lm)


def uninjected(lm: PreTrainedModel) -> EPALM:
    """A model whose plan is empty, without a prompt."""
    return EPALM(lm, Connectors(8, WIDTH, 1), None, InjectionPlan((None,) * LAYERS)).eval()


def _three_tokens(lm: PreTrainedModel) -> EPALM:
    torch.manual_seed(1)
    plan = plan_injection(LAYERS, 2, first=1, stop=5)
    prompt = SoftPrompt(3, _word_width(lm), hidden=0)
    return EPALM(lm, Connectors(8, WIDTH, 2, visual_tokens=3), prompt, plan).eval()


def _word_width(lm: PreTrainedModel) -> int:
    return decoder_parts(lm).word_embedding.embedding_dim


def some_features(model: EPALM, images: int) -> Tensor:
    """(images, L, 8) features."""
    count = 6 if model.visual_tokens == 3 else 2
    return torch.randn(images, count, 8, generator=torch.Generator().manual_seed(3))


def some_texts() -> list[Tensor]:
    """Three texts of `LENGTHS` tokens, without special tokens."""
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def padded(texts: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Tensors (ids, mask) of texts with padding on one side."""
    width = max(map(len, texts))
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        columns = slice(0, len(text)) if side == "right" else slice(width - len(text), width)
        ids[row, columns], mask[row, columns] = text, 1
    return ids, mask
