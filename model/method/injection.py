"""Injection plan: which decoder layer receives which cached [CLS] feature.

One visual token comes before the soft prompt and the text. Before each layer of the plan's span a
connector's output replaces it; layers after the span treat it as the plan's `tail` says. The
official implementation spreads n features over layers s <= i < e in order, each over (e - s) // n
layers. Its configurations use s = L - 13, e = L - 1, n = 6, and s = 5, e = 11 for OPT-125M
(L = 12). Section 3.2 of the paper says "the last 12 layers".
"""

from dataclasses import dataclass
from typing import Literal

from epalm.errors import UsageError

Tail = Literal["causal", "official", "drop", "to-end"]
"""What layers after the span see of the visual token.

causal: the token as the last injected layer left it; it attends only to itself, so no label leaks.
official: the same token, but it attends to all tokens, later text and padding included (official
    implementation).
drop: nothing, the token is removed (as in DePALM's re-implementation).
to-end: there are no such layers, the span extends to the last layer.
"""


CANNOT_GENERATE = (
    "tail 'official' lets a visual token that attends to the text reach more than the last layer, "
    "so no keys and values of the text can be cached between generation steps: inject up to the "
    "last layer but one with text_step 1, or use tail 'causal' or 'drop'"
)
"""Error message for a plan whose `InjectionPlan.can_generate` is false."""


@dataclass(frozen=True)
class InjectionPlan:
    """Per decoder layer, the index of the cached feature it receives, or None.

    Attributes:
        feature_of_layer: one entry per layer. A layer with None after the first injected one
            receives the visual token from the previous layer.
        tail: treatment of the visual token after the span, see `Tail`.
    """

    feature_of_layer: tuple[int | None, ...]
    tail: Tail = "causal"

    @property
    def _injected(self) -> list[int]:
        """The layers that receive a feature."""
        return [layer for layer, index in enumerate(self.feature_of_layer) if index is not None]

    @property
    def first(self) -> int:
        """First injected layer; the number of layers if there is none."""
        return next(iter(self._injected), len(self.feature_of_layer))

    @property
    def stop(self) -> int:
        """Layer after the last injected one; the number of layers if there is none."""
        return max(self._injected, default=len(self.feature_of_layer) - 1) + 1

    @property
    def feature_count(self) -> int:
        """Number of features up to the last injected one; less than all if layers are too few."""
        return max((index or 0 for index in self.feature_of_layer), default=0) + 1

    @property
    def visual_sees_all(self) -> bool:
        """Whether a later layer reads a visual token that has attended to all tokens."""
        return self.tail == "official" and None in self.feature_of_layer[self.first :]

    @property
    def can_generate(self) -> bool:
        """Whether the text's keys and values can be cached between generation steps.

        A visual token that attends to the text changes with it, so only the last layer may read
        it, where just the newest text token matters. The published spans satisfy this.
        """
        return not self.visual_sees_all or None not in self.feature_of_layer[self.first : -1]

    def __str__(self) -> str:
        """The plan as a table, one line per span of layers with the same input."""
        lines = [f"decoder layers {len(self.feature_of_layer)}, tail {self.tail}"]
        inputs = [self._describe(layer) for layer in range(len(self.feature_of_layer))]
        start = 0
        for layer in range(1, len(inputs) + 1):
            if layer == len(inputs) or inputs[layer] != inputs[start]:
                span = f"{start}" if layer - start == 1 else f"{start}..{layer - 1}"
                lines.append(f"  {span:>8}  {inputs[start]}")
                start = layer
        return "\n".join(lines)

    def _describe(self, layer: int) -> str:
        index = self.feature_of_layer[layer]
        if index is not None:
            return f"visual token from feature {index}"
        if layer < self.first:
            return "no visual token"
        dropped = self.tail == "drop" and layer >= self.stop
        return "no visual token (dropped)" if dropped else "visual token from the previous layer"


def plan_injection(
    layers: int,
    cached: int,
    *,
    first: int,
    stop: int,
    tail: Tail = "causal",
    text_step: int = 1,
) -> InjectionPlan:
    """Spread features over the layers first <= i < stop as the official implementation does.

    Args:
        layers: number of decoder layers.
        cached: number of cached features, at least 1.
        first: first injected layer, 0-based.
        stop: layer after the last injected one; ignored with the tail "to-end".
        tail: treatment of the visual token after the span, see `Tail`.
        text_step: features are injected at layers that are multiples of this number; the span's
            other layers receive the visual token from the previous layer. The official
            configurations have 1, the paper's text suggests 2.

    Raises:
        UsageError: the span does not fit the model or has no multiple of text_step, or there is
            no cached feature.
    """
    if tail == "to-end":
        stop = layers
    if not 0 <= first < stop <= layers:
        raise UsageError(
            f"injection span {first}:{stop} does not fit {layers} decoder layers: "
            f"give 0 <= first < stop <= {layers}"
        )
    if cached < 1:
        raise UsageError("an injection needs at least one cached feature, found 0")
    span = stop - first
    step = span // cached if span > cached else 1
    feature_of_layer: list[int | None] = [None] * layers
    for layer in range(first, stop):
        if layer % text_step == 0:
            feature_of_layer[layer] = min((layer - first) // step, cached - 1)
    if not any(index is not None for index in feature_of_layer):
        raise UsageError(
            f"injection span {first}:{stop} has no layer that is a multiple of text_step "
            f"{text_step}: widen inject or lower text_step"
        )
    return InjectionPlan(tuple(feature_of_layer), tail)


def default_span(layers: int, cached: int) -> tuple[int, int]:
    """Span (first, stop) of the published configurations, for a model of any depth.

    Two layers per feature, ending before the last layer; one layer per feature where the model is
    too shallow for that, as published for OPT-125M.
    """
    stop = layers - 1
    first = stop - 2 * cached
    return (first, stop) if first >= 0 else (max(stop - cached, 0), max(stop, 1))


def upper_span(layers: int, cached: int) -> tuple[int, int]:
    """The part of `default_span` in the upper half of the layers, at least a layer per feature."""
    first, stop = default_span(layers, cached)
    return max(first, min(layers // 2, stop - cached)), stop


def check_span(text: str) -> None:
    """Reject a text that is no span of any model.

    Raises:
        UsageError: the text is neither "auto", nor "FIRST:STOP" or "FIRST:end".
    """
    first, _, stop = text.partition(":")
    if text == "auto":
        return
    if not (first.isdecimal() and (stop.isdecimal() or stop == "end")):
        raise UsageError(f"inject is {text!r}, expected 'auto', 'FIRST:STOP' or 'FIRST:end'")


def parse_span(text: str, layers: int, cached: int) -> tuple[int, int]:
    """Span (first, stop) from a recipe: "auto", "FIRST:STOP" or "FIRST:end".

    Raises:
        UsageError: the text is none of these.
    """
    check_span(text)
    if text == "auto":
        return default_span(layers, cached)
    first, _, stop = text.partition(":")
    return int(first), layers if stop == "end" else int(stop)
