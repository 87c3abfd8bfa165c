"""What enters the language model's first layer."""

import torch
from torch import Tensor, nn
from transformers.models.opt.modeling_opt import OPTDecoder

from epalm.model.method.prompt import DeepPrompt, SoftPrompt


def embed_rows(
    decoder: OPTDecoder,
    prompt: SoftPrompt | DeepPrompt | None,
    ids: Tensor,
    *,
    positions: Tensor,
) -> tuple[Tensor, int]:
    """Embedded words with the prompt before them.

    A soft prompt is as wide as a word and passes `project_in` with the words where there is one
    (OPT-350M), a deep one is as wide as the layers. Neither has positions.

    Args:
        decoder: of OPT.
        prompt: P vectors, or none.
        ids: (rows) int64.
        positions: (rows) int64, rows of the table of positions.

    Returns:
        (P + rows, H), and P.
    """
    rows: Tensor = decoder.embed_tokens(ids)
    if isinstance(prompt, SoftPrompt):
        rows = torch.cat([prompt().to(rows.dtype), rows])
    if decoder.project_in is not None:
        rows = decoder.project_in(rows)
    places = nn.functional.embedding(positions, decoder.embed_positions.weight)
    soft = len(rows) - len(ids)
    rows = torch.cat([rows[:soft], rows[soft:] + places])
    if isinstance(prompt, DeepPrompt):
        rows = torch.cat([prompt(0).to(rows.dtype), rows])
    return rows, len(rows) - len(ids)
