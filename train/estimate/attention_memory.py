"""Memory of attention between the tokens of a step, see `epalm.model.engine.packed_attention`."""

from dataclasses import dataclass
from typing import Literal

from epalm.model.engine.packed_attention import SHORT_SEQUENCE
from epalm.model.families.decoder_parts import DecoderParts
from epalm.train.estimate.weight_memory import FLOAT_BYTES


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of the attention of one layer.

    Attributes:
        sequences: B, number of sequences.
        length: S, number of slots of a sequence: visual, prompt and text tokens, and padding.
        queries: number of these slots that are queries.
        heads: number of query heads.
        head_width: width of a head.
        bounded: whether the scores are bounded (softcap), so that no fused kernel can be used.
    """

    sequences: int
    length: int
    queries: int
    heads: int
    head_width: int
    bounded: bool

    @classmethod
    def of(
        cls, parts: DecoderParts, sequences: int, length: int, queries: int | None = None
    ) -> "AttentionShape":
        """The attention of a language model over sequences of this number of slots.

        All slots are queries unless their number is given.
        """
        bounded = parts.attention_softcap is not None
        queries = length if queries is None else queries
        return cls(sequences, length, queries, parts.heads, parts.head_width, bounded)

    @property
    def query_states(self) -> int:
        """Number of numbers in all queries, as in the output."""
        return self.sequences * self.queries * self.heads * self.head_width

    @property
    def key_states(self) -> int:
        """Number of numbers in all keys of repeated heads, as in all values."""
        return self.sequences * self.length * self.heads * self.head_width

    @property
    def states(self) -> int:
        """Number of numbers in all queries, keys and values."""
        return self.query_states + 2 * self.key_states

    @property
    def scores(self) -> int:
        """Number of attention scores."""
        return self.heads * self.mask

    @property
    def mask(self) -> int:
        """Number of entries of the attention mask."""
        return self.sequences * self.queries * self.length

    def kernel(self, *, cpu: bool, dropout: bool) -> Literal["plain", "fused", "composed"]:
        """How the scores are computed.

        plain: by `packed_attention` itself, as products and softmax. fused: by a kernel of PyTorch
        that keeps no scores. composed: by PyTorch, as products and softmax in float32.
        """
        if self.bounded or (cpu and self.length < SHORT_SEQUENCE):
            return "plain"
        return "composed" if cpu and dropout else "fused"


def saved_attention_bytes(shape: AttentionShape, itemsize: int, *, cpu: bool, dropout: bool) -> int:
    """Bytes that attention saves for backward.

    Args:
        shape: sizes.
        itemsize: bytes of a number of the queries.
        cpu: whether the device is a CPU.
        dropout: whether attention weights are dropped.
    """
    kernel = shape.kernel(cpu=cpu, dropout=dropout)
    if kernel == "composed":  # queries, keys, values; softmax, dropout mask, dropped weights
        return (shape.states + 3 * shape.scores) * FLOAT_BYTES
    saved = shape.states * itemsize
    if kernel == "fused":  # output, one normalizer per query and head, additive mask
        normalizers = shape.sequences * shape.queries * shape.heads
        return saved + (shape.query_states + shape.mask) * itemsize + normalizers * FLOAT_BYTES
    return (
        saved
        + shape.scores * _plain_score_bytes(shape, itemsize, cpu=cpu, dropout=dropout)
        + shape.mask
    )


def _plain_score_bytes(shape: AttentionShape, itemsize: int, *, cpu: bool, dropout: bool) -> int:
    """Bytes saved for each score by products and softmax."""
    softmax, tanh = FLOAT_BYTES, itemsize if shape.bounded else 0
    mask = (itemsize if cpu else 1) if dropout else 0
    weights = itemsize if dropout or itemsize < FLOAT_BYTES else 0  # dropped or cast softmax
    return softmax + tanh + mask + weights


def working_attention_bytes(
    shape: AttentionShape, itemsize: int, *, cpu: bool, dropout: bool = False
) -> int:
    """Bytes that exist only while attention computes its output or its gradients."""
    gradients = (shape.states + shape.query_states) * itemsize  # the latter of the output
    if shape.kernel(cpu=cpu, dropout=dropout) == "fused":
        return gradients
    return gradients + shape.scores * (2 * FLOAT_BYTES + itemsize)
