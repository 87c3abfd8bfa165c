"""Generation after a cached prefix, with transformers' own decoding loops."""

from collections.abc import Sequence
from typing import Any

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
from transformers.generation.streamers import BaseStreamer

from epalm.errors import ModelError
from epalm.model.engine.language_model import is_sharded
from epalm.model.epalm import EPALM
from epalm.model.families.family import text_positions
from epalm.model.generation.prefix_cache import CACHE_ARGUMENT, PrefixCache
from epalm.model.generation.token_log_probs import LogProbRecorder
from epalm.model.method.model_settings import Decoding


class GumbelNoise(LogitsProcessor):
    """Adds Gumbel noise to the logits, so that their maximum is a sample from their softmax.

    Each sequence has its own random generator, so its samples do not depend on the batch.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        """Create one random generator per sequence."""
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Noisy scores, (sequences, vocabulary) float32."""
        del input_ids
        exponential = torch.empty_like(scores)
        for sequence, generator in zip(exponential, self._generators, strict=True):
            sequence.exponential_(generator=generator)
        return scores - exponential.clamp_(min=torch.finfo(exponential.dtype).tiny).log_()


@torch.no_grad()  # in inference mode, sharded weights could not be used for training again
def generate(
    model: EPALM,
    features: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    decoding: Decoding,
    *,
    seeds: Sequence[int] = (),
) -> Tensor:
    """Generated ids for prompts with one image each; see `generate_from_cache`.

    Args:
        model: model in eval mode.
        features: (B, L, D) stored features.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        decoding: decoding settings.
        seeds: B random seeds, used if the decoding samples.
    """
    cache = PrefixCache.from_features(model, features)
    image_index = torch.arange(len(features), device=features.device)
    return generate_from_cache(
        model, cache, input_ids, attention_mask, decoding, image_index=image_index, seeds=seeds
    )


@torch.no_grad()
def generate_from_cache(
    model: EPALM,
    cache: PrefixCache,
    input_ids: Tensor,
    attention_mask: Tensor,
    decoding: Decoding,
    *,
    image_index: Tensor,
    seeds: Sequence[int] = (),
    recorder: LogProbRecorder | None = None,
    returned: int = 1,
    streamer: BaseStreamer | None = None,
) -> Tensor:
    """Generated ids for each prompt, padded after the end token.

    With beam search, a prompt is still processed only once.

    Args:
        model: model in eval mode.
        cache: cached prefixes of the images.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        decoding: decoding settings.
        image_index: (B) int64, index of each prompt's image in `cache`.
        seeds: B random seeds, used if the decoding samples.
        recorder: records the log-probabilities of the generated tokens.
        returned: number of texts for each prompt, at most the number of beams.
        streamer: receives the prompts, then the tokens of each step, (B); without beams only.

    Returns:
        (B x returned, at most max_new_tokens) int64; the texts of a prompt one after the other, in
        the order of the beam search.

    Raises:
        ModelError: a prompt ends in padding, or the text would exceed the language model's
            position table.
    """
    check_positions(model, input_ids, attention_mask, decoding.max_new_tokens)
    length, beams = input_ids.shape[1], decoding.num_beams
    sharded = is_sharded(model.language_model)
    text_cache = cache.select(image_index, None if bool(attention_mask.all()) else attention_mask)
    if beams > 1:
        if length > 1 and not sharded:  # all processes must run sharded layers equally often
            extend_cache(model, text_cache, input_ids[:, :-1])
        sequences = torch.arange(len(image_index), device=image_index.device)
        text_cache = text_cache.select(sequences.repeat_interleave(beams))
    language_model: Any = model.language_model  # every causal language model can generate
    output = language_model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        generation_config=_generation_config(model.language_model.config, decoding, returned),
        logits_processor=_processors(decoding, seeds, input_ids.device, recorder),
        synced_gpus=sharded,
        streamer=streamer,
        **{CACHE_ARGUMENT: text_cache},
    )
    ids: Tensor = output[:, length:]
    return ids


def extend_cache(model: EPALM, cache: PrefixCache, input_ids: Tensor) -> Tensor:
    """Process the next tokens of the cached sequences.

    Args:
        model: model in eval mode.
        cache: cache of the same sequences; extended in place.
        input_ids: (sequences, new) int64, at least one new token.

    Returns:
        The input of the language-model head, (sequences, new, word embedding's width).
    """
    output = model.parts.body(
        input_ids=input_ids,
        position_ids=cache.next_positions(input_ids.shape[1]),
        attention_mask=cache.text_mask(cache.get_seq_length() + input_ids.shape[1]),
        use_cache=True,
        **{CACHE_ARGUMENT: cache},
    )
    states: Tensor = output.last_hidden_state
    return states


def check_positions(
    model: EPALM, input_ids: Tensor, attention_mask: Tensor, new_tokens: int
) -> None:
    """Reject prompts that end in padding or leave too few positions.

    Raises:
        ModelError: a prompt ends in padding, or it and `new_tokens` exceed the position table.
    """
    if not bool(attention_mask[:, -1].all()):
        raise ModelError("generation needs left padding, found a prompt that ends in padding")
    positions = text_positions(model.language_model.config)
    if input_ids.shape[1] + new_tokens > positions:
        raise ModelError(
            f"a prompt of {input_ids.shape[1]} tokens and {new_tokens} new ones "
            f"exceed the language model's {positions} positions"
        )


def _generation_config(
    config: PretrainedConfig, decoding: Decoding, returned: int
) -> GenerationConfig:
    """Greedy or beam search; sampling is greedy search after `GumbelNoise`."""
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        num_return_sequences=returned,
        do_sample=False,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


def _processors(
    decoding: Decoding, seeds: Sequence[int], device: torch.device, recorder: LogProbRecorder | None
) -> LogitsProcessorList:
    processors = LogitsProcessorList()
    if recorder:
        processors.append(recorder)
    if not decoding.do_sample:
        return processors
    if decoding.temperature != 1:
        processors.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_p < 1:
        processors.append(TopPLogitsWarper(decoding.top_p))
    processors.append(GumbelNoise(seeds, device))
    return processors
