"""The input of the language model's first layer."""

import torch
from torch import Tensor, nn

from epalm.model.families.decoder_parts import DecoderParts
from epalm.model.method.prompt import DeepPrompt, SoftPrompt


def embed_inputs(
    parts: DecoderParts,
    prompt: SoftPrompt | DeepPrompt | None,
    ids: Tensor,
    *,
    positions: Tensor,
) -> tuple[Tensor, int]:
    """Embeddings of the text tokens with the prompt before them.

    A soft prompt has the word embedding's width and passes through `project_in` with the text
    where the model has one (OPT-350M); a deep prompt has the layers' width. Neither has learned
    position embeddings.

    Args:
        parts: parts of the language model.
        prompt: prompt of P tokens, or none.
        ids: (tokens) int64.
        positions: (tokens) int64, position of each token in its text; -1 for padding.

    Returns:
        (P + tokens, H), and P.
    """
    hidden: Tensor = parts.word_embedding(ids)
    if isinstance(prompt, SoftPrompt):
        hidden = torch.cat([prompt().to(hidden.dtype), hidden])
    if parts.project_in is not None:
        hidden = parts.project_in(hidden)
    if parts.position_table is not None:
        indices = (positions + parts.position_offset).clamp(min=0)
        embedded = nn.functional.embedding(indices, parts.position_table.weight)
        soft = len(hidden) - len(ids)
        hidden = torch.cat([hidden[:soft], hidden[soft:] + embedded])
    if isinstance(prompt, DeepPrompt):
        hidden = torch.cat([prompt(0).to(hidden.dtype), hidden])
    return hidden, len(hidden) - len(ids)
