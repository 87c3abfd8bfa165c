"""Pretrain the small OPT on text only, and its tokenizer.

The texts (`tools.pretraining.pretraining_texts`) are descriptions with questions about them; no
image and no encoder is involved. A question can read the description through a single token only.
`</s> description </s>` comes first. Then each question is a segment `</s> question answer </s>`
that starts at position 0 and attends to itself and to the last `</s>` of the description. The model
is thus trained to summarize a scene in one token and to answer from one token, which is where the
visual token is later.
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
from tools.pretraining.pretraining_schedule import cosine_schedule, optimizer_step
from tools.pretraining.pretraining_texts import Text, make_text

STEPS = 4000
BATCH = 32
LEARNING_RATE = 3e-3
WARMUP_STEPS = 200
WEIGHT_DECAY = 0.01

ANSWER_WEIGHT, OPENING_WEIGHT, QUESTION_WEIGHT = 1.0, 0.1, 0.025
"""Loss weights; tokens of descriptions and questions are mostly unpredictable."""

LAYERS = 8
WIDTH = 96
HEADS = 6
POSITIONS = 192

INITIAL_STD = 0.08
"""About 0.8 / sqrt(WIDTH); larger than OPT's 0.02, which suits widths of thousands."""

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
"""Ids 0 to 3, as in OPT."""

SPARE_EMBEDDINGS = 8
"""Number of embeddings beyond the tokenizer's entries, for added tokens such as `</a>`; OPT has
7."""

TOKENIZER_TEXTS = 4000
MAX_TOKENS = 640
"""Maximum size of the vocabulary; merging stops earlier, when every word is one token."""

POOL_BATCHES = 8
"""Number of batches whose texts are sorted by length together before they are split."""


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in OPT's conventions: `</s>` begins every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_TOKENS,
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
    """A pre-LN OPT with tied embeddings and random weights."""
    config = OPTConfig(
        vocab_size=entries + SPARE_EMBEDDINGS,
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
    """One tokenized text; all lists have one entry per token.

    Attributes:
        ids: token ids.
        positions: position ids, from 0 in every segment.
        weights: loss weights.
        segments: 0 for the description, then the number of the question from 1.
        summary: index of the token that questions attend to; -1 without a description.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    summary: int = -1

    def add(self, ids: list[int], weights: list[float]) -> None:
        """Append a segment."""
        number = self.segments[-1] + 1 if self.segments else 0
        self.ids += ids
        self.weights += weights
        self.positions += range(len(ids))
        self.segments += [number] * len(ids)


def encode_text(tokenizer: PreTrainedTokenizerFast, text: Text) -> EncodedText:
    """Tokenize a text into the segments that the module's docstring describes."""
    end = cast(int, tokenizer.eos_token_id)

    def tokens(part: str) -> list[int]:
        ids: list[int] = tokenizer(part, add_special_tokens=False).input_ids
        return ids

    encoded = EncodedText()
    opening = [end, *tokens(text.opening), end] if text.opening else [end]
    encoded.add(opening, [0.0] + [OPENING_WEIGHT] * (len(opening) - 1))
    encoded.summary = len(opening) - 1 if text.opening else -1
    for question in text.questions:
        prompt, answer = tokens(question.text), [*tokens(f" {question.answer}"), end]
        weights = [0.0] + [QUESTION_WEIGHT] * len(prompt) + [ANSWER_WEIGHT] * len(answer)
        encoded.add([end, *prompt, *answer], weights)
    return encoded


@dataclass(frozen=True)
class TextBatch:
    """B texts, right-padded to T tokens.

    Attributes:
        ids: (B, T) int64.
        positions: (B, T) int64.
        weights: (B, T) float32 loss weight of each token; 0 on padding.
        visible: (B, 1, T, T) bool, whether a query attends to a key.
    """

    ids: Tensor
    positions: Tensor
    weights: Tensor
    visible: Tensor


def collate_texts(texts: list[EncodedText], pad: int) -> TextBatch:
    """Pad the texts to a batch."""
    width = max(len(text.ids) for text in texts)

    def padded(rows: list[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    segments = padded([text.segments for text in texts], -1)
    weights = [text.weights + [0.0] * (width - len(text.weights)) for text in texts]
    summary = torch.tensor([text.summary for text in texts])
    is_summary = torch.arange(width) == summary[:, None]
    same = segments[:, :, None] == segments[:, None, :]
    across = (segments > 0)[:, :, None] & is_summary[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    return TextBatch(
        ids=padded([text.ids for text in texts], pad),
        positions=padded([text.positions for text in texts], 0),
        weights=torch.tensor(weights),
        visible=(causal & (same | across))[:, None],
    )


def text_batches(tokenizer: PreTrainedTokenizerFast, stream: str, seed: int) -> Iterator[TextBatch]:
    """Endless batches of new texts of similar lengths."""
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
    """(B, T, vocabulary) logits."""
    mask = torch.zeros(batch.visible.shape).masked_fill(~batch.visible, -1e9)
    logits: Tensor = model(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=mask
    ).logits
    return logits


def weighted_loss(logits: Tensor, batch: TextBatch) -> Tensor:
    """Weighted mean cross-entropy of next-token prediction."""
    losses = cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none"
    )
    weights = batch.weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def answer_accuracy(model: OPTForCausalLM, batch: TextBatch) -> float:
    """Fraction of the answers' tokens, without end tokens, that are the most probable ones."""
    with torch.inference_mode():
        correct = text_logits(model, batch).argmax(-1)[:, :-1] == batch.ids[:, 1:]
    end = model.config.eos_token_id
    in_answer = (batch.weights[:, 1:] == ANSWER_WEIGHT) & (batch.ids[:, 1:] != end)
    return float(correct[in_answer].float().mean())


def pretrain_opt(
    tokenizer: PreTrainedTokenizerFast, tick: Ticker, *, steps: int = STEPS, seed: int = 0
) -> OPTForCausalLM:
    """Train from random weights on next-token prediction.

    Args:
        tokenizer: tokenizer of `train_tokenizer`.
        tick: called once per step.
        steps: number of optimizer steps with `BATCH` texts each.
        seed: random seed of the initial weights and the order of batches.
    """
    torch.manual_seed(seed)
    model = build_opt(len(tokenizer))
    model.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    schedule = cosine_schedule(optimizer, steps, warmup=WARMUP_STEPS)
    batches = text_batches(tokenizer, "pretrain-opt", seed)
    for _ in range(steps):
        batch = next(batches)
        loss = weighted_loss(text_logits(model, batch), batch)
        optimizer_step(loss, optimizer, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return model


def save_opt(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, model.safetensors (float16) and the tokenizer's files."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
