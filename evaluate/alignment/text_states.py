"""The language model's hidden states of texts, one vector per text and layer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from epalm.errors import ModelError
from epalm.model.families.decoder_parts import decoder_parts
from epalm.model.families.family import text_positions
from epalm.model.method.model_settings import Template
from epalm.model.text.text_encoder import TextEncoder
from epalm.tasks.types import Example

TEMPLATE = Template("{prompt} {answer}", "answer")
"""Format of a question and its answer; a caption stands alone."""

Texts = list[tuple[list[int], int]]
"""Token ids of each text, and the number of begin tokens before it."""


def encode(text: TextEncoder, examples: Sequence[Example], model: PreTrainedModel) -> Texts:
    """Token ids of each example's question and first answer, without end token.

    Raises:
        ModelError: a text has no token, or more than the language model has positions.
    """
    prompts = text.prompt_ids([example.prompt for example in examples])
    answers = text.answer_ids([example.answers[0] for example in examples])
    positions = text_positions(model.config)
    texts = []
    for example, prompt, answer in zip(examples, prompts, answers, strict=True):
        ids = [*prompt, *answer[:-1]]
        if not len(text.begin) < len(ids) <= positions:
            raise ModelError(
                f"the text of example {example.question_id!r} has {len(ids)} tokens, expected "
                f"{len(text.begin) + 1} to {positions}: leave it out of the split"
            )
        texts.append((ids, len(text.begin)))
    return texts


@torch.no_grad()
def mean_states(
    model: PreTrainedModel,
    texts: Texts,
    *,
    pad: int,
    batch_size: int,
    on_batch: Callable[[int], object],
) -> NDArray[np.float32]:
    """Hidden states of each text, averaged over its tokens without the begin tokens.

    Args:
        model: the frozen language model.
        texts: token ids, from `encode`.
        pad: id of the pad token.
        batch_size: texts per forward pass.
        on_batch: called with the size of each finished batch.

    Returns:
        (layers + 1, N, H): the word embeddings with their positions, then each layer's output, the
        last one after the final norm where transformers gives it so.
    """
    body: Any = decoder_parts(model).body
    device = next(model.parameters()).device
    order = sorted(range(len(texts)), key=lambda index: len(texts[index][0]))
    states: NDArray[np.float32] | None = None
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        ids, mask, counted = _collate([texts[index] for index in chosen], pad)
        outputs = body(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        weights = counted.to(device)[..., None]
        means = [(layer.float() * weights).sum(1) / weights.sum(1) for layer in outputs]
        batch = torch.stack(means).cpu().numpy()
        if states is None:
            states = np.empty((len(batch), len(texts), batch.shape[2]), np.float32)
        states[:, chosen] = batch
        on_batch(len(chosen))
    if states is None:
        raise ModelError("there are no texts to compute hidden states of")
    return states


def _collate(texts: Texts, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T) each: right-padded ids, attention mask, and 1 for the tokens that are averaged."""
    ids = pad_sequence([torch.tensor(one) for one, _ in texts], True, pad)  # noqa: FBT003
    columns = torch.arange(ids.shape[1])
    mask = (columns < torch.tensor([len(one) for one, _ in texts])[:, None]).long()
    begins = torch.tensor([begin for _, begin in texts])[:, None]
    return ids, mask, (mask * (columns >= begins)).float()
