"""Generation behind a cache, by transformers' own decoding loops."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PretrainedConfig,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from epalm.errors import ModelError
from epalm.model.engine.language_model import is_sharded
from epalm.model.epalm import EPALM
from epalm.model.generation.prefix_cache import CACHE_ARGUMENT, PrefixCache
from epalm.model.generation.token_log_probs import LogProbRecorder
from epalm.model.method.model_settings import Decoding


class GumbelNoise(LogitsProcessor):
    """Gumbel noise on the logits, so that the largest one is a draw from their softmax.

    Each row has a random stream of its own, which makes its draws independent of the batch.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        """One stream per row."""
        self._streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(rows, vocabulary) float32, of the same shape."""
        del input_ids
        waits = torch.empty_like(scores)
        for wait, stream in zip(waits, self._streams, strict=True):
            wait.exponential_(generator=stream)
        return scores - waits.clamp_(min=torch.finfo(waits.dtype).tiny).log_()


@torch.no_grad()  # in inference mode, sharded weights could not be used for training again
def generate(
    model: EPALM,
    tokens: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    decoding: Decoding,
    *,
    seeds: Sequence[int] = (),
) -> Tensor:
    """Ids that follow each prompt about a picture of its own; see `generate_from_cache`.

    Args:
        model: in eval mode.
        tokens: (B, L, D) stored vectors.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        decoding: see `Decoding`.
        seeds: see `generate_from_cache`.
    """
    pictures = PrefixCache.of_pictures(model, tokens)
    own = torch.arange(len(tokens), device=tokens.device)
    return generate_from_cache(
        model, pictures, input_ids, attention_mask, decoding, pictures=own, seeds=seeds
    )


@torch.no_grad()
def generate_from_cache(
    model: EPALM,
    cache: PrefixCache,
    input_ids: Tensor,
    attention_mask: Tensor,
    decoding: Decoding,
    *,
    pictures: Tensor,
    seeds: Sequence[int] = (),
    witness: LogProbRecorder | None = None,
) -> Tensor:
    """Ids that follow each prompt, padded after the end token.

    A prompt is read once, however many beams go on from it.

    Args:
        model: in eval mode.
        cache: of the pictures.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        decoding: see `Decoding`.
        pictures: (B) int64, the row of `cache` that each prompt is about.
        seeds: B numbers that decide the draws if the decoding samples.
        witness: notes the probabilities of the tokens.

    Returns:
        (B, at most max_new_tokens) int64.

    Raises:
        ModelError: the last real token is not in the last column, or the text would outgrow the
            language model's position table.
    """
    check_room(model, input_ids, attention_mask, decoding.max_new_tokens)
    length, beams = input_ids.shape[1], decoding.num_beams
    sharded = is_sharded(model.language_model)
    read = cache.branch(pictures, None if bool(attention_mask.all()) else attention_mask)
    if beams > 1:
        if length > 1 and not sharded:  # else all processes have to pass the layers equally often
            read_text(model, read, input_ids[:, :-1])
        rows = torch.arange(len(pictures), device=pictures.device).repeat_interleave(beams)
        read = read.branch(rows)
    out = model.language_model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        generation_config=_configuration(model.language_model.config, decoding),
        logits_processor=_processors(decoding, seeds, input_ids.device, witness),
        synced_gpus=sharded,
        **{CACHE_ARGUMENT: read},
    )
    ids: Tensor = out[:, length:]
    return ids


def read_text(model: EPALM, cache: PrefixCache, input_ids: Tensor) -> Tensor:
    """Let the cache read the next tokens of its texts.

    Args:
        model: in eval mode.
        cache: as many rows as there are texts; changed.
        input_ids: (rows, new) int64, at least one new.

    Returns:
        (rows, new, word embedding's width): what the head makes logits of.
    """
    read = model.language_model.model.decoder(
        input_ids=input_ids,
        attention_mask=cache.text_mask(cache.get_seq_length() + input_ids.shape[1]),
        use_cache=True,
        **{CACHE_ARGUMENT: cache},
    )
    states: Tensor = read.last_hidden_state
    return states


def check_room(model: EPALM, input_ids: Tensor, attention_mask: Tensor, new_tokens: int) -> None:
    """Refuse prompts that no text can follow; see `generate_from_cache` for what is raised."""
    if not bool(attention_mask[:, -1].all()):
        raise ModelError("generation needs left padding, found a prompt that ends in padding")
    positions = model.language_model.config.max_position_embeddings
    if input_ids.shape[1] + new_tokens > positions:
        raise ModelError(
            f"a prompt of {input_ids.shape[1]} tokens and {new_tokens} new ones "
            f"exceed the language model's {positions} positions"
        )


def _configuration(config: PretrainedConfig, decoding: Decoding) -> GenerationConfig:
    """Greedy or beams; draws are the greedy choice behind `GumbelNoise`."""
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        do_sample=False,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


def _processors(
    decoding: Decoding, seeds: Sequence[int], device: torch.device, witness: LogProbRecorder | None
) -> LogitsProcessorList:
    processors = LogitsProcessorList()
    if witness:
        processors.append(witness)
    if not decoding.do_sample:
        return processors
    if decoding.temperature != 1:
        processors.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_p < 1:
        processors.append(TopPLogitsWarper(decoding.top_p))
    processors.append(GumbelNoise(seeds, device))
    return processors
