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
    """Embeddings of the text tokens, after those of a soft prompt that enters with them.

    Such a prompt has the word embedding's width and passes through `project_in` with the text
    where the model has one (OPT-350M). It has no learned position embeddings. Other prompts enter
    layers, see `epalm.model.method.insertion`.

    Args:
        parts: parts of the language model.
        prompt: prompt of P tokens, or none; ignored unless it enters with the text.
        ids: (tokens) int64.
        positions: (tokens) int64, position of each token in its text; -1 for padding.

    Returns:
        (P + tokens, H), and P, which is 0 without such a prompt.
    """
    hidden: Tensor = parts.word_embedding(ids)
    if isinstance(prompt, SoftPrompt) and prompt.layer is None:
        hidden = torch.cat([prompt().to(hidden.dtype), hidden])
    if parts.project_in is not None:
        hidden = parts.project_in(hidden)
    if parts.position_table is not None:
        indices = (positions + parts.position_offset).clamp(min=0)
        embedded = nn.functional.embedding(indices, parts.position_table.weight)
        soft = len(hidden) - len(ids)
        hidden = torch.cat([hidden[:soft], hidden[soft:] + embedded])
    return hidden, len(hidden) - len(ids)
