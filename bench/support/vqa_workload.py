"""Models of the published sizes and random questions with the lengths of VQA v2's."""

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
from epalm.train.data.batching import bucket_lengths, group_by_sample
from epalm.train.data.tokenized_texts import Text, distinct_images

CACHED_LAYERS, ENCODER_WIDTH, PROMPT = 6, 768, 10
"""The published values: [CLS] tokens of the last six blocks of a ViT-B, and ten prompt tokens."""

STORED_IMAGES = 4096
"""Number of images whose features are in memory."""

BEGIN, PAD, FIRST_WORD = 2, 1, 4
"""Token ids of OPT, which begins and ends texts with the same token."""

SHORTEST, LONGEST, LONGER = 8, 16, 0.225
"""A question has 8 + Binomial(8, 0.225) tokens."""

ANSWERS = (0.6, 0.25, 0.1, 0.05)
"""Probabilities of answers with 1 to 4 tokens. The mean length of question and answer, with begin
and end token, is 13.4 tokens."""


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
"""Shapes of the OPT models. "32x1024" has the depth and the injected layers of 2.7b, with a width
that two cores can compute."""


def random_lm(shape: Shape, precision: str, *, words: int, device: str) -> OPTForCausalLM:
    """A frozen OPT with random weights, created on `device`."""
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
        model: OPTForCausalLM = OPTForCausalLM._from_config(config, dtype=PRECISIONS[precision])
    return freeze(model)


def random_model(lm: OPTForCausalLM, variant: str, *, tail: Tail = "causal") -> EPALM:
    """A method variant around `lm`, with the published injected layers, in training mode."""
    settings = ModelSettings(
        lm="random",
        precision="that of lm",
        variant=variant,
        encoder_width=ENCODER_WIDTH,
        cached=CACHED_LAYERS,
        prompt_length=PROMPT,
        inject="auto",
        tail=tail,
        lm_dropout=0.0,
        template="{prompt}?</a>{answer}",
        supervise="all",
    )
    return assemble(lm, settings).to(lm.device).train()


@dataclass(frozen=True)
class BatchLayout:
    """How texts are grouped into batches.

    Attributes:
        together: number of questions about one image that share a batch.
        buckets: whether texts of similar length share a batch.
        supervise: supervised tokens, as in `epalm.model.method.model_settings.Template`.
    """

    together: int = 1
    buckets: bool = False
    supervise: Supervision = "all"


@dataclass(frozen=True)
class Step:
    """Input of one training step.

    Attributes:
        batch: the batch, with (G) int64 rows of the stored features in place of the features.
        texts: texts of the samples.
    """

    batch: Batch
    texts: list[Text]


@dataclass(frozen=True)
class Questions:
    """Random questions with answers; new in every round, the same for all variants of a round.

    Attributes:
        words: size of the vocabulary.
        batch_size: samples per batch.
        steps: batches per round.
        device: device of the tensors.
    """

    words: int
    batch_size: int
    steps: int
    device: str

    def texts(self, number: int) -> list[Text]:
        """The texts of a round."""
        return list(self._texts(np.random.default_rng(number)))

    def batches(self, number: int, layout: BatchLayout) -> list[Step]:
        """The texts of a round, grouped into batches."""
        texts = self.texts(number)
        random = np.random.default_rng([number, 1])
        media = random.permutation(STORED_IMAGES)[: len(texts)]
        if layout.together > 1:
            media = media[np.arange(len(texts)) // layout.together]
        order = EpochOrder(random.permutation(len(texts)), np.array([len(texts)]))
        order, units = group_by_sample(order, media, layout.together)
        if layout.buckets:
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
            distinct, image_index = distinct_images(media[places])
            chosen = [texts[place] for place in places]
            padded = collate_texts(chosen, supervise=layout.supervise, pad=PAD)
            rows = torch.from_numpy(media[places][distinct])
            batch = Batch(rows, *padded, image_index).to(torch.device(self.device))
            made.append(Step(batch, chosen))
        return made

    def _texts(self, random: np.random.Generator) -> Iterator[Text]:
        for _ in range(self.steps * self.batch_size):
            question_length = SHORTEST + random.binomial(LONGEST - SHORTEST, LONGER)
            answer_length = 1 + random.choice(len(ANSWERS), p=ANSWERS)
            words = random.integers(
                FIRST_WORD, self.words, question_length + answer_length
            ).tolist()
            yield [BEGIN, *words[:question_length]], [*words[question_length:], BEGIN]


def stored_features(device: str) -> Tensor:
    """(STORED_IMAGES, L, D) float16; 256 random rows, repeated to save time."""
    random = torch.Generator().manual_seed(0)
    some = torch.randn(256, CACHED_LAYERS, ENCODER_WIDTH, generator=random).half()
    return some.repeat(STORED_IMAGES // len(some), 1, 1).to(device)
