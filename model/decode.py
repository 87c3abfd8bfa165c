"""Generation with a key/value cache behind the visual prefix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from epalm.errors import ModelError
from epalm.model.batch import Template, collate_prompts
from epalm.model.epalm import EPALM


@dataclass(frozen=True)
class Decoding:
    """How text is generated.

    Attributes:
        max_new_tokens: tokens after the prompt, the end token included.
        num_beams: 1 is greedy; the paper's main results use 3.
    """

    max_new_tokens: int = 20
    num_beams: int = 1


@torch.inference_mode()
def generate(
    model: EPALM, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, decoding: Decoding
) -> Tensor:
    """Ids that follow each prompt, padded after the end token.

    Args:
        model: in eval mode.
        tokens: (B, L, D) stored vectors.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        decoding: see `Decoding`.

    Returns:
        (B, at most max_new_tokens) int64.

    Raises:
        ModelError: the last real token is not in the last column, or the text would outgrow the
            language model's position table.
    """
    if not bool(attention_mask[:, -1].all()):
        raise ModelError("generation needs left padding, found a prompt that ends in padding")
    config = model.language_model.config
    wanted = input_ids.shape[1] + decoding.max_new_tokens
    if wanted > config.max_position_embeddings:
        raise ModelError(
            f"a prompt of {input_ids.shape[1]} tokens and {decoding.max_new_tokens} new ones "
            f"exceed the language model's {config.max_position_embeddings} positions"
        )
    out = model.language_model.generate(  # type: ignore[misc]
        input_ids=input_ids,
        attention_mask=attention_mask,
        prefix=model.prefix(tokens),
        prefix_index=torch.arange(len(tokens), device=tokens.device),
        generation_config=GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            num_beams=decoding.num_beams,
            do_sample=False,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        ),
    )
    ids: Tensor = out[:, input_ids.shape[1] :]
    return ids


def generate_texts(
    model: EPALM,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    prompts: Sequence[str],
    tokens: Tensor,
    decoding: Decoding,
) -> list[str]:
    """The text that follows each prompt, without special tokens and outer blanks.

    Args:
        model: in eval mode.
        tokenizer: with the answer separator added if the template uses it.
        template: how prompts were written in training.
        prompts: B prompts, empty for captioning.
        tokens: (B, L, D) stored vectors.
        decoding: see `Decoding`.
    """
    device = next(model.parameters()).device
    ids, mask = collate_prompts(tokenizer, template, prompts)
    out = generate(model, tokens.to(device), ids.to(device), mask.to(device), decoding)
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    return [text.strip() for text in texts]


def generate_all(
    model: EPALM,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    prompts: Sequence[str],
    read: Callable[[list[int]], Tensor],
    *,
    decoding: Decoding,
    batch_size: int,
    tick: Callable[[int], object],
) -> list[str]:
    """Texts for all prompts, in their order; prompts of like length share a batch.

    Args:
        model: left in eval mode.
        tokenizer: see `generate_texts`.
        template: see `generate_texts`.
        prompts: all prompts.
        read: places among the prompts -> their stored vectors (B, L, D).
        decoding: see `Decoding`.
        batch_size: prompts per batch.
        tick: called with the size of each finished batch.
    """
    model.eval()
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        asked = [prompts[place] for place in places]
        made = generate_texts(model, tokenizer, template, asked, read(places), decoding)
        for place, text in zip(places, made, strict=True):
            texts[place] = text
        tick(len(places))
    return texts
