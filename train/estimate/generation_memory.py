"""Memory of generating answers in validation: caches of keys and values, and logits."""

from dataclasses import dataclass

from epalm.model.engine.language_model import PRECISIONS
from epalm.model.epalm import EPALM
from epalm.train.estimate.attention_memory import AttentionShape, working_attention_bytes
from epalm.train.estimate.connector_memory import working_connector_bytes
from epalm.train.estimate.layer_trace import LayerMode, trace_layer
from epalm.train.estimate.step_memory import tokens_before_text
from epalm.train.estimate.weight_memory import FLOAT_BYTES, WeightPlacement

LOGIT_COPIES = 3
"""Float32 copies of the logits of the newest tokens: scores, log-probabilities, and one of these
changed by a logits processor."""


@dataclass(frozen=True)
class GenerationShape:
    """Sizes of a batch of answers.

    Attributes:
        images: number of images whose prefixes are cached together.
        questions: number of prompts in a batch.
        beams: number of beams of each.
        prompt: number of tokens of the longest prompt, begin token included.
        new: maximum number of new tokens.
    """

    images: int
    questions: int
    beams: int
    prompt: int
    new: int


def generation_bytes(model: EPALM, shape: GenerationShape, placing: WeightPlacement) -> int:
    """Bytes that exist only while answers are generated."""
    sequences, vocabulary = shape.questions * shape.beams, model.parts.head.out_features
    logits = sequences * vocabulary * (placing.itemsize + LOGIT_COPIES * FLOAT_BYTES)
    longest = max(map(sum, tokens_before_text(model))) + shape.prompt + shape.new
    growth = sequences * longest * position_bytes(model, placing)  # a layer's copy, one longer
    working = max(
        logits,
        _prompt_working(model, shape, placing),
        working_connector_bytes(model, shape.images),
    )
    return cache_bytes(model, shape, placing) + growth + working


def cache_bytes(model: EPALM, shape: GenerationShape, placing: WeightPlacement) -> int:
    """Bytes of all keys and values: of the images, and of the sequences with the longest texts."""
    before, text = list(map(sum, tokens_before_text(model))), shape.prompt + shape.new
    per_sequence = sum(count + text for count in before)
    positions = shape.images * sum(before) + shape.questions * shape.beams * per_sequence
    return positions * position_bytes(model, placing)


def position_bytes(model: EPALM, placing: WeightPlacement) -> int:
    """Bytes of the keys and values of one position in one layer.

    They have the key-value heads of the language model, which are fewer than its heads in most
    families.
    """
    return 2 * model.parts.key_value_heads * model.parts.head_width * placing.itemsize


def _prompt_working(model: EPALM, shape: GenerationShape, placing: WeightPlacement) -> int:
    """Bytes that exist only while a layer computes the prompts."""
    layers, tokens = range(len(model.parts.layers)), shape.questions * shape.prompt
    mode = LayerMode(PRECISIONS[placing.precision])
    traces = [trace_layer(model.parts, index, mode) for index in layers]
    longest = max(map(sum, tokens_before_text(model)))
    attention = AttentionShape.of(model.parts, shape.questions, longest + shape.prompt)
    return max(
        *(round(tokens * trace.memory.working) for trace in traces),
        working_attention_bytes(attention, placing.itemsize, cpu=placing.cpu),
    )
