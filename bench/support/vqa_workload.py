"""What `bench.training` trains on: models of the published sizes and questions as long as VQA's."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from epalm.cache.readers.epoch_order import EpochOrder
from epalm.model.build import assemble
from epalm.model.engine.language_model import PRECISIONS, freeze
from epalm.model.engine.model_batch import Batch, collate_texts
from epalm.model.epalm import EPALM
from epalm.model.method.injection import Tail
from epalm.model.method.model_settings import ModelSettings, Supervision
from epalm.train.data.batching import bucket_lengths, group_media
from epalm.train.data.tokenized_texts import Text, picture_numbers

VECTORS, ENCODER_WIDTH, PROMPT = 6, 768, 10
"""[CLS] of the last six blocks of a ViT-B, ten soft-prompt vectors: as published."""

STORED = 4096
"""Pictures whose vectors lie in memory."""

BEGIN, PAD, FIRST_WORD = 2, 1, 4
"""OPT's ids; it ends texts with the token that begins them."""

SHORTEST, LONGEST, LONGER = 8, 16, 0.225
"""Tokens of a question: 8 + Binomial(8, 0.225), ..."""

ANSWERS = (0.6, 0.25, 0.1, 0.05)
"""... of an answer: 1 to 4 with these chances; with begin and end token 13.4 on average."""


@dataclass(frozen=True)
class Shape:
    """Sizes of an OPT."""

    layers: int
    width: int
    heads: int


SHAPES = {
    "125m": Shape(12, 768, 12),
    "32x1024": Shape(32, 1024, 16),
    "1.3b": Shape(24, 2048, 32),
    "2.7b": Shape(32, 2560, 32),
    "6.7b": Shape(32, 4096, 32),
}
"""OPT's, but for "32x1024": depth and injected layers of 2.7b, thin enough for two cores."""


def random_lm(shape: Shape, precision: str, *, words: int, device: str) -> OPTForCausalLM:
    """A frozen OPT of random weights, made on its device."""
    config = OPTConfig(
        vocab_size=words,
        hidden_size=shape.width,
        word_embed_proj_dim=shape.width,
        ffn_dim=4 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        dropout=0.0,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = OPTForCausalLM._from_config(config, dtype=PRECISIONS[precision])
    return freeze(model)


def random_model(lm: OPTForCausalLM, variant: str, *, tail: Tail = "causal") -> EPALM:
    """A variant around a language model, at the published layers, in training mode."""
    settings = ModelSettings(
        lm="random",
        precision="that of lm",
        variant=variant,
        encoder_width=ENCODER_WIDTH,
        cached=VECTORS,
        prompt_length=PROMPT,
        inject="auto",
        tail=tail,
        lm_dropout=0.0,
        template="{prompt}?</a>{answer}",
        supervise="all",
    )
    return assemble(lm, settings).to(lm.device).train()


@dataclass(frozen=True)
class Arrangement:
    """How the same texts become batches.

    Attributes:
        together: questions about one picture that share a batch.
        buckets: texts of like length share a batch.
        supervise: see `epalm.model.method.model_settings.Template`.
    """

    together: int = 1
    buckets: bool = False
    supervise: Supervision = "all"


@dataclass(frozen=True)
class Step:
    """What one step learns from.

    Attributes:
        batch: in place of `tokens` stand (G) int64 rows of the stored vectors.
        texts: of its samples.
    """

    batch: Batch
    texts: list[Text]


@dataclass(frozen=True)
class Questions:
    """Questions with answers, anew for every round; all variants of a round get the same texts.

    Attributes:
        words: size of the vocabulary.
        batch_size: B.
        steps: batches per round.
        device: of the tensors.
    """

    words: int
    batch_size: int
    steps: int
    device: str

    def texts(self, number: int) -> list[Text]:
        """The round's texts."""
        return list(self._texts(np.random.default_rng(number)))

    def batches(self, number: int, arrangement: Arrangement) -> list[Step]:
        """The round's texts as batches."""
        texts = self.texts(number)
        random = np.random.default_rng([number, 1])
        media = random.permutation(STORED)[: len(texts)]
        if arrangement.together > 1:
            media = media[np.arange(len(texts)) // arrangement.together]
        order = EpochOrder(random.permutation(len(texts)), np.array([len(texts)]))
        order, units = group_media(order, media, arrangement.together)
        if arrangement.buckets:
            order = bucket_lengths(
                order,
                units,
                np.array([len(head) + len(tail) for head, tail in texts]),
                batch_size=self.batch_size,
                window=self.steps,
                random=random,
            )
        made = []
        for places in np.split(order.examples, self.steps):
            distinct, pictures = picture_numbers(media[places])
            chosen = [texts[place] for place in places]
            padded = collate_texts(chosen, supervise=arrangement.supervise, pad=PAD)
            rows = torch.from_numpy(media[places][distinct])
            batch = Batch(rows, *padded, pictures).to(torch.device(self.device))
            made.append(Step(batch, chosen))
        return made

    def _texts(self, random: np.random.Generator) -> Iterator[Text]:
        for _ in range(self.steps * self.batch_size):
            asked = SHORTEST + random.binomial(LONGEST - SHORTEST, LONGER)
            answered = 1 + random.choice(len(ANSWERS), p=ANSWERS)
            words = random.integers(FIRST_WORD, self.words, asked + answered).tolist()
            yield [BEGIN, *words[:asked]], [*words[asked:], BEGIN]


def stored_vectors(device: str) -> Tensor:
    """(STORED, L, D) float16; every 256 rows are the same, which makes them quickly."""
    random = torch.Generator().manual_seed(0)
    some = torch.randn(256, VECTORS, ENCODER_WIDTH, generator=random).half()
    return some.repeat(STORED // len(some), 1, 1).to(device)
