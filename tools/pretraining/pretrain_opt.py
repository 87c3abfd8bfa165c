"""Pretrain the micro OPT on texts alone, and its tokenizer.

The texts (`tools.pretraining.pretraining_texts`) describe scenes in words and ask about them; no
image and no vector of an encoder is involved. A text is laid out so that all a question learns of
the description passes through one row: `</s> description </s>` first, then for each question `</s>
question answer </s>`, which begins again at position 0 and sees itself and the row of the
description's last `</s>`. The model thereby learns to gather a scene in one row and to answer from
one row, which is where the visual vector stands later.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from epalm.console import Ticker
from tools.pretraining.pretraining_schedule import cosine_schedule, descend
from tools.pretraining.pretraining_texts import Text, make_text

STEPS = 4000
BATCH = 32
LEARNING_RATE = 3e-3
WARMUP_STEPS = 200
WEIGHT_DECAY = 0.01

ANSWER_WEIGHT, OPENING_WEIGHT, QUESTION_WEIGHT = 1.0, 0.1, 0.025
"""Weights in the loss; tokens of descriptions and questions are mostly unpredictable."""

LAYERS = 8
WIDTH = 96
HEADS = 6
POSITIONS = 192

INITIAL_STD = 0.08
"""Wider than OPT's 0.02, which suits widths of some thousands: about 0.8 / sqrt(WIDTH)."""

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
"""Ids 0 to 3, as in OPT."""

SPARE_ROWS = 8
"""Embedding rows beyond the tokenizer's entries, for added tokens such as `</a>`; OPT has 7."""

TOKENIZER_TEXTS = 4000
MOST_TOKENS = 640
"""Upper limit of the vocabulary; merging stops earlier, when every word is one token."""

POOL_BATCHES = 8
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
    texts = (make_text(f"tokenizer/{number}").plain() for number in range(TOKENIZER_TEXTS))
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
        init_std=INITIAL_STD,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=2,
    )
    return OPTForCausalLM(config)


@dataclass
class EncodedText:
    """One text, token by token; all lists have the same length.

    Attributes:
        ids: tokens.
        positions: places in the position table, from 0 in every segment.
        weights: in the loss.
        segments: 0 for the description, then the question's number from 1.
        gathered: index of the row that questions see; -1 without a description.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    gathered: int = -1

    def add(self, ids: list[int], weights: list[float]) -> None:
        """Append a segment."""
        number = self.segments[-1] + 1 if self.segments else 0
        self.ids += ids
        self.weights += weights
        self.positions += range(len(ids))
        self.segments += [number] * len(ids)


def encode_text(tokenizer: PreTrainedTokenizerFast, text: Text) -> EncodedText:
    """The layout that the head of this module describes."""
    end = cast(int, tokenizer.eos_token_id)

    def tokens(part: str) -> list[int]:
        ids: list[int] = tokenizer(part, add_special_tokens=False).input_ids
        return ids

    encoded = EncodedText()
    opening = [end, *tokens(text.opening), end] if text.opening else [end]
    encoded.add(opening, [0.0] + [OPENING_WEIGHT] * (len(opening) - 1))
    encoded.gathered = len(opening) - 1 if text.opening else -1
    for question in text.questions:
        asked, told = tokens(question.text), [*tokens(f" {question.answer}"), end]
        weights = [0.0] + [QUESTION_WEIGHT] * len(asked) + [ANSWER_WEIGHT] * len(told)
        encoded.add([end, *asked, *told], weights)
    return encoded


@dataclass(frozen=True)
class TextBatch:
    """B texts, right-padded to T tokens.

    Attributes:
        ids: (B, T) int64.
        positions: (B, T) int64.
        weights: (B, T) float32, of each token in the loss; 0 on padding.
        visible: (B, 1, T, T) bool, whether a token (row) sees another.
    """

    ids: Tensor
    positions: Tensor
    weights: Tensor
    visible: Tensor


def collate_texts(texts: list[EncodedText], pad: int) -> TextBatch:
    """The batch of these texts."""
    width = max(len(text.ids) for text in texts)

    def padded(rows: list[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    segments = padded([text.segments for text in texts], -1)
    weights = [text.weights + [0.0] * (width - len(text.weights)) for text in texts]
    gathered = torch.tensor([text.gathered for text in texts])
    is_gathered = torch.arange(width) == gathered[:, None]
    same = segments[:, :, None] == segments[:, None, :]
    across = (segments > 0)[:, :, None] & is_gathered[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    return TextBatch(
        ids=padded([text.ids for text in texts], pad),
        positions=padded([text.positions for text in texts], 0),
        weights=torch.tensor(weights),
        visible=(causal & (same | across))[:, None],
    )


def text_batches(tokenizer: PreTrainedTokenizerFast, stream: str, seed: int) -> Iterator[TextBatch]:
    """Endless batches of fresh texts of like lengths."""
    rng, number = random.Random(seed), 0
    while True:
        names = range(number, number + BATCH * POOL_BATCHES)
        number = names.stop
        encoded = [encode_text(tokenizer, make_text(f"{stream}/{name}")) for name in names]
        encoded.sort(key=lambda text: len(text.ids))
        starts = list(range(0, len(encoded), BATCH))
        rng.shuffle(starts)
        for start in starts:
            yield collate_texts(encoded[start : start + BATCH], cast(int, tokenizer.pad_token_id))


def text_logits(model: OPTForCausalLM, batch: TextBatch) -> Tensor:
    """(B, T, vocabulary)."""
    mask = torch.zeros(batch.visible.shape).masked_fill(~batch.visible, -1e9)
    logits: Tensor = model(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=mask
    ).logits
    return logits


def weighted_loss(logits: Tensor, batch: TextBatch) -> Tensor:
    """Mean cross-entropy of each token after the ones it sees, by the tokens' weights."""
    losses = cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none"
    )
    kept = batch.weights[:, 1:].flatten()
    return (losses * kept).sum() / kept.sum()


def answer_accuracy(model: OPTForCausalLM, batch: TextBatch, end: int) -> float:
    """Share of answers' tokens that are the most probable ones."""
    with torch.inference_mode():
        right = text_logits(model, batch).argmax(-1)[:, :-1] == batch.ids[:, 1:]
    asked = (batch.weights[:, 1:] == ANSWER_WEIGHT) & (batch.ids[:, 1:] != end)
    return float(right[asked].float().mean())


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
    model.set_attn_implementation("eager")
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    schedule = cosine_schedule(optimiser, steps, warmup=WARMUP_STEPS)
    batches = text_batches(tokenizer, "pretrain-opt", seed)
    for _ in range(steps):
        batch = next(batches)
        loss = weighted_loss(text_logits(model, batch), batch)
        descend(loss, optimiser, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return model


def save_opt(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, model.safetensors (float16) and the tokenizer's files."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
