"""Pretrain the micro OPT on texts alone, and its tokenizer.

The texts (`epalm.demo.texts`) describe scenes in words and ask about them; no picture and no
vector of an encoder is involved.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from epalm.console import Ticker
from epalm.demo.schedule import cosine_factor
from epalm.demo.texts import make_pieces, make_text

STEPS = 6000
BATCH = 32
LEARNING_RATE = 2e-3
WARMUP_STEPS = 200
WEIGHT_DECAY = 0.01

ANSWER_WEIGHT = 8.0
"""Weight of an answer's tokens in the loss; other tokens, mostly unpredictable, weigh 1."""

LAYERS = 8
WIDTH = 96
HEADS = 6
POSITIONS = 160

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
"""Ids 0 to 3, as in OPT."""

SPARE_ROWS = 8
"""Embedding rows beyond the tokenizer's entries, for added tokens such as `</a>`; OPT has 7."""

TOKENIZER_TEXTS = 4000
MOST_TOKENS = 640
"""Upper limit of the vocabulary; merging stops earlier, when every word is one token."""

POOL_BATCHES = 16
"""Texts of so many batches are sorted by length before they are cut into batches."""


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in OPT's conventions: `</s>` begins every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MOST_TOKENS,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (make_text(f"tokenizer/{number}") for number in range(TOKENIZER_TEXTS))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", pair="</s> $A </s> $B", special_tokens=[("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=POSITIONS - 2,
    )


def build_opt(entries: int) -> OPTForCausalLM:
    """The architecture with random weights; a pre-LN OPT with tied embeddings."""
    config = OPTConfig(
        vocab_size=entries + SPARE_ROWS,
        hidden_size=WIDTH,
        word_embed_proj_dim=WIDTH,
        num_hidden_layers=LAYERS,
        ffn_dim=4 * WIDTH,
        num_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
        do_layer_norm_before=True,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=2,
    )
    return OPTForCausalLM(config)


def encode_text(tokenizer: PreTrainedTokenizerFast, name: str) -> tuple[list[int], list[float]]:
    """(ids, weight of each id in the loss) of a text, with `</s>` at both ends."""
    end = int(tokenizer.eos_token_id)
    ids, weights = [end], [0.0]
    for number, piece in enumerate(make_pieces(name)):
        part = tokenizer(piece, add_special_tokens=False).input_ids
        ids += part
        weights += [ANSWER_WEIGHT if number % 2 else 1.0] * len(part)
    return [*ids, end], [*weights, 1.0]


def text_batches(
    tokenizer: PreTrainedTokenizerFast, stream: str, *, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless right-padded batches of fresh texts of like lengths.

    Yields:
        ids (BATCH, T) int64; weights (BATCH, T) float32, 0 on the first token and on padding.
    """
    rng, number = random.Random(seed), 0
    pad = int(tokenizer.pad_token_id)
    while True:
        names = range(number, number + BATCH * POOL_BATCHES)
        number = names.stop
        encoded = [encode_text(tokenizer, f"{stream}/{name}") for name in names]
        encoded.sort(key=lambda pair: len(pair[0]))
        starts = list(range(0, len(encoded), BATCH))
        rng.shuffle(starts)
        for start in starts:
            rows = encoded[start : start + BATCH]
            width = len(rows[-1][0])
            ids = [ids + [pad] * (width - len(ids)) for ids, _ in rows]
            weights = [weights + [0.0] * (width - len(weights)) for _, weights in rows]
            yield torch.tensor(ids), torch.tensor(weights)


def weighted_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy of each token after the ones before it, by the tokens' weights.

    Args:
        logits: (B, T, vocabulary).
        ids: (B, T) int64.
        weights: (B, T) float32.
    """
    losses = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    kept = weights[:, 1:].flatten()
    return (losses * kept).sum() / kept.sum()


def pretrain_opt(
    tokenizer: PreTrainedTokenizerFast, tick: Ticker, *, steps: int = STEPS, seed: int = 0
) -> OPTForCausalLM:
    """Train from random weights on next-token prediction.

    Args:
        tokenizer: from `train_tokenizer`.
        tick: called once per step.
        steps: optimiser steps of `BATCH` texts.
        seed: of the initial weights and the order of batches.
    """
    torch.manual_seed(seed)
    model = build_opt(len(tokenizer))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: cosine_factor(step, steps, warmup=WARMUP_STEPS)
    )
    batches = text_batches(tokenizer, "pretrain-opt", seed=seed)
    for _ in range(steps):
        ids, weights = next(batches)
        # Right padding needs no attention mask under a causal one; its weight is 0.
        loss = weighted_loss(model(input_ids=ids).logits, ids, weights)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        tick(1, f"loss {loss.item():.4f}")
    return model


def save_opt(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, model.safetensors (float16) and the tokenizer's files."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
