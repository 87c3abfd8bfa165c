"""The input of the language model's first layer."""

import torch
from torch import Tensor, nn
from transformers.models.opt.modeling_opt import OPTDecoder

from epalm.model.method.prompt import DeepPrompt, SoftPrompt


def embed_inputs(
    decoder: OPTDecoder,
    prompt: SoftPrompt | DeepPrompt | None,
    ids: Tensor,
    *,
    positions: Tensor,
) -> tuple[Tensor, int]:
    """Embeddings of the text tokens with the prompt before them.

    A soft prompt has the word embedding's width and passes through `project_in` with the text
    where the model has one (OPT-350M); a deep prompt has the layers' width. Neither has position
    embeddings.

    Args:
        decoder: OPT's decoder.
        prompt: prompt of P tokens, or none.
        ids: (tokens) int64.
        positions: (tokens) int64, indices into the position table.

    Returns:
        (P + tokens, H), and P.
    """
    hidden: Tensor = decoder.embed_tokens(ids)
    if isinstance(prompt, SoftPrompt):
        hidden = torch.cat([prompt().to(hidden.dtype), hidden])
    if decoder.project_in is not None:
        hidden = decoder.project_in(hidden)
    position_embeddings = nn.functional.embedding(positions, decoder.embed_positions.weight)
    soft = len(hidden) - len(ids)
    hidden = torch.cat([hidden[:soft], hidden[soft:] + position_embeddings])
    if isinstance(prompt, DeepPrompt):
        hidden = torch.cat([prompt(0).to(hidden.dtype), hidden])
    return hidden, len(hidden) - len(ids)
