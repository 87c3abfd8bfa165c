"""Memory of the activations of a training step, on one process's device.

All tokens of a step are packed, see `epalm.model.engine.packing`. The frozen weights require no
gradient, so that a linear map saves no input.
"""

from dataclasses import dataclass
from functools import cached_property

import torch

from epalm.model.engine.language_model import PRECISIONS
from epalm.model.engine.losses import CHUNK_TOKENS
from epalm.model.epalm import EPALM
from epalm.model.method.insertion import Insertion
from epalm.model.method.prompt import SoftPrompt
from epalm.train.estimate.attention_memory import (
    AttentionShape,
    saved_attention_bytes,
    working_attention_bytes,
)
from epalm.train.estimate.connector_memory import saved_connector_bytes
from epalm.train.estimate.layer_trace import (
    LayerMode,
    LayerTrace,
    hidden_width,
    rotation_bytes,
    trace_head,
    trace_layer,
)
from epalm.train.estimate.weight_memory import WeightPlacement, unpacked_weight_bytes

INDEX_BYTES = 8


@dataclass(frozen=True)
class StepShape:
    """Sizes of the batch that one process computes in a step.

    Attributes:
        samples: B, number of examples.
        images: G, number of distinct images, at most B.
        text_tokens: number of tokens of all B texts.
        longest: T, number of tokens of the longest text.
    """

    samples: int
    images: int
    text_tokens: int
    longest: int


@dataclass(frozen=True)
class StepMemory:
    """The memory of a step.

    Attributes:
        model: shapes of the model.
        load: sizes of the batch.
        placing: precision and placement of the frozen weights.
    """

    model: EPALM
    load: StepShape
    placing: WeightPlacement

    def tokens(self, index: int) -> int:
        """N, number of visual, prompt and text tokens in one layer."""
        return sum(self._before_text(index)) + self.load.text_tokens

    def only_keys(self, index: int) -> int:
        """Number of tokens in one layer that are keys and values only."""
        at, (visual, prompt) = self._insertion.tokens_at(index), self._before_text(index)
        return visual * at.visual_is_key + prompt * at.prompt_is_key

    def saved(self) -> int:
        """Bytes saved for backward: of each layer, or only its input where it is recomputed."""
        kept, recomputed = self._split()
        inputs = (
            sum(map(self.tokens, recomputed))
            * hidden_width(self.model.parts)
            * self.placing.itemsize
        )
        return sum(map(self.layer, kept)) + inputs + self.ends()

    def working(self) -> int:
        """Bytes that exist only while a layer is computed, recomputed or left backward."""
        _, recomputed = self._split()
        layers = range(len(self.model.parts.layers))
        return (
            max(map(self.layer, recomputed), default=0)
            + max(map(self._layer_working, layers))
            + unpacked_weight_bytes(self.model, self.placing)
            + self._visual_states()
        )

    def layer(self, index: int) -> int:
        """Bytes that one layer saves for backward: 0 where nothing in or below it is trained."""
        trained_below = self._trained_below(index)
        if not trained_below and not self._adapted(index):
            return 0
        trace, keys = self._trace(index), self.only_keys(index)
        queries = self.tokens(index) - keys
        saved = queries * trace.memory.saved
        if self.model.lm_dropout and not self.placing.cpu:  # masks of one byte
            without = queries * self._trace(index, dropout=False).memory.saved
            saved = without + (saved - without) / self.placing.itemsize
        saved += keys * self._trace(index, only_keys=True).memory.saved if keys else 0
        attention = saved_attention_bytes(
            self._attention(index),
            self.placing.itemsize,
            cpu=self.placing.cpu,
            dropout=trace.attention_dropout,
        )
        return round(saved) + attention * trained_below

    def ends(self) -> int:
        """Bytes saved before the first and after the last layer: features, indices, losses."""
        model, load, last = self.model, self.load, len(self.model.parts.layers) - 1
        slots = sum(load.samples * self._attention(index).length for index in (0, last))
        tokens = self.tokens(0) + self.tokens(last)
        return (
            saved_connector_bytes(model, load.images)
            + (slots + tokens) * INDEX_BYTES
            + tokens * rotation_bytes(model.parts, self._dtype)
            + self._embedding_mask()
            + round(load.text_tokens * trace_head(model.parts, self._dtype).saved)
        )

    def head(self) -> int:
        """Bytes that exist only while losses are computed: of a chunk, or all if it is trained."""
        trained, tokens = "language_model" in self.model.trained, self.load.text_tokens
        rows = tokens if trained else min(CHUNK_TOKENS, tokens)
        return round(rows * trace_head(self.model.parts, self._dtype).working)

    def _embedding_mask(self) -> int:
        """Bytes of the dropout mask of layer 0's input, which a soft prompt is a part of."""
        prompt = self.model.prompt
        embedded = isinstance(prompt, SoftPrompt) and prompt.layer is None
        if not self.model.lm_dropout or not embedded:
            return 0
        itemsize = self.placing.itemsize if self.placing.cpu else 1
        return self.tokens(0) * hidden_width(self.model.parts) * itemsize

    def _split(self) -> tuple[range, range]:
        """Indices of the layers that keep their activations, and of those that are recomputed."""
        count = len(self.model.parts.layers)
        start = max(count - self.placing.recomputed, 0)
        return range(start), range(start, count)

    def _layer_working(self, index: int) -> int:
        trace, shape = self._trace(index), self._attention(index)
        attention = working_attention_bytes(
            shape, self.placing.itemsize, cpu=self.placing.cpu, dropout=trace.attention_dropout
        )
        queries = self.tokens(index) - self.only_keys(index)
        return max(round(queries * trace.memory.working), attention)

    def _visual_states(self) -> int:
        """Bytes of the connectors' outputs, which exist until the last injection."""
        features = [index for index in self.model.plan.feature_of_layer if index is not None]
        tokens = (1 + max(features, default=0)) * self.load.images * self.model.visual_tokens
        return tokens * hidden_width(self.model.parts) * self.placing.itemsize

    def _attention(self, index: int) -> AttentionShape:
        at, longest = self._insertion.tokens_at(index), self.load.longest
        in_full = at.visual * (not at.visual_is_key) + at.prompt * (not at.prompt_is_key)
        length = at.visual + at.prompt + longest
        return AttentionShape.of(self.model.parts, self.load.samples, length, in_full + longest)

    def _before_text(self, index: int) -> tuple[int, int]:
        """Number of visual tokens of all images, and of prompt tokens in all copies."""
        at, images = self._insertion.tokens_at(index), self.load.images
        return images * at.visual, at.prompt * (1 if at.shared_prompt else images)

    def _trained_below(self, index: int) -> bool:
        """Whether the layer's input depends on trained parameters."""
        model = self.model
        return (
            index >= self._first
            or (model.prompt is not None and index >= model.prompt.first)
            or "language_model" in model.trained
            or self._adapted(index - 1)
        )

    def _adapted(self, index: int) -> bool:
        """Whether the layer has adapters."""
        adapters = self.model.adapters
        return adapters is not None and index >= adapters.first

    def _trace(self, index: int, *, dropout: bool = True, only_keys: bool = False) -> LayerTrace:
        in_train_mode = dropout and self.model.lm_dropout > 0
        mode = LayerMode(self._dtype, in_train_mode, self._trained_below(index), only_keys)
        return trace_layer(self.model.parts, index, mode)

    @cached_property
    def _insertion(self) -> Insertion:
        return self.model.insertion

    @cached_property
    def _first(self) -> int:
        return self.model.plan.first

    @property
    def _dtype(self) -> torch.dtype:
        return PRECISIONS[self.placing.precision]


def tokens_before_text(model: EPALM) -> list[tuple[int, int]]:
    """(V, P) of each layer: number of visual and of prompt tokens of one sequence."""
    at = map(model.insertion.tokens_at, range(len(model.parts.layers)))
    return [(tokens.visual, tokens.prompt) for tokens in at]
