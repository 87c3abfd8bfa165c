"""Which OPT layer receives which cached [CLS] vector.

One visual row stands in front of the soft prompt and the text. Before each layer of the plan's
span it is overwritten with a connector's output; layers behind the span treat it as the plan's
`tail` says. The released code spreads n vectors over layers s <= i < e in order, each over
(e - s) // n layers; its configurations use s = L - 13, e = L - 1, n = 6, and s = 5, e = 11 for
OPT-125M (L = 12). Section 3.2 of the paper says "the last 12 layers".
"""

from dataclasses import dataclass
from typing import Literal

from epalm.errors import UsageError

Tail = Literal["causal", "official", "drop", "to-end"]
"""What layers behind the span see of the visual row.

causal: the row as the last injected layer left it; it sees only itself, so no label leaks.
official: likewise, but its query sees all rows, later text and padding included (released code).
drop: nothing, the row is removed (as in DePALM's re-implementation).
to-end: there are none, the span is taken to the last layer.
"""


@dataclass(frozen=True)
class InjectionPlan:
    """Per OPT layer, the index of the cached vector it receives, or none.

    Attributes:
        source: one entry per OPT layer. A layer without a vector behind the first injected one
            reads the visual row as the layer below left it.
        tail: see `Tail`.
    """

    source: tuple[int | None, ...]
    tail: Tail = "causal"

    @property
    def first(self) -> int:
        """First injected layer; the number of layers if there is none."""
        injected = [layer for layer, index in enumerate(self.source) if index is not None]
        return injected[0] if injected else len(self.source)

    @property
    def stop(self) -> int:
        """Layer behind the last injected one."""
        injected = [layer for layer, index in enumerate(self.source) if index is not None]
        return injected[-1] + 1 if injected else len(self.source)

    @property
    def visual_sees_all(self) -> bool:
        """Whether what the visual row has read of all rows reaches a later layer."""
        return self.tail == "official" and None in self.source[self.first :]

    @property
    def can_generate(self) -> bool:
        """Whether text can be kept for the next step while more of it is generated.

        A visual row that reads the text changes with it, so it may be read by the last layer alone,
        where only the newest text row is of interest. The published spans are so.
        """
        return not self.visual_sees_all or None not in self.source[self.first : -1]

    def __str__(self) -> str:
        """The plan as a table, one line per run of equal layers."""
        lines = [f"OPT layers {len(self.source)}, tail {self.tail}"]
        names = [self._describe(layer) for layer in range(len(self.source))]
        start = 0
        for layer in range(1, len(names) + 1):
            if layer == len(names) or names[layer] != names[start]:
                span = f"{start}" if layer - start == 1 else f"{start}..{layer - 1}"
                lines.append(f"  {span:>8}  {names[start]}")
                start = layer
        return "\n".join(lines)

    def _describe(self, layer: int) -> str:
        index = self.source[layer]
        if index is not None:
            return f"visual token from feature {index}"
        if layer < self.first:
            return "no visual token"
        dropped = self.tail == "drop" and layer >= self.stop
        return "no visual token (dropped)" if dropped else "visual token of the layer before"


def plan_injection(
    layers: int,
    cached: int,
    *,
    first: int,
    stop: int,
    tail: Tail = "causal",
    text_step: int = 1,
) -> InjectionPlan:
    """Spread `cached` vectors over layers first <= i < stop as the released code does.

    Args:
        layers: number of OPT layers.
        cached: number of vectors, at least 1.
        first: first injected layer, 0-based.
        stop: layer behind the last injected one; not looked at with the tail "to-end".
        tail: see `Tail`.
        text_step: a vector is injected at layers that are multiples of it; the span's others
            carry the row over. The released configurations have 1, the paper's text reads like 2.

    Raises:
        UsageError: the span does not fit the model or has no multiple of text_step, or there is
            no vector.
    """
    if tail == "to-end":
        stop = layers
    if not 0 <= first < stop <= layers:
        raise UsageError(
            f"injection span {first}:{stop} does not fit {layers} OPT layers: "
            f"give 0 <= first < stop <= {layers}"
        )
    if cached < 1:
        raise UsageError("an injection needs at least one cached vector, found 0")
    span = stop - first
    step = span // cached if span > cached else 1
    source: list[int | None] = [None] * layers
    for layer in range(first, stop):
        if layer % text_step == 0:
            source[layer] = min((layer - first) // step, cached - 1)
    if not any(index is not None for index in source):
        raise UsageError(
            f"injection span {first}:{stop} has no layer that is a multiple of text_step "
            f"{text_step}: widen inject or lower text_step"
        )
    return InjectionPlan(tuple(source), tail)


def default_span(layers: int, cached: int) -> tuple[int, int]:
    """(first, stop) of the published configurations, for OPT of any depth.

    Two layers per vector up to the last layer but one; one layer per vector where the model is too
    shallow for that, as published for OPT-125M.
    """
    stop = layers - 1
    first = stop - 2 * cached
    return (first, stop) if first >= 0 else (max(stop - cached, 0), max(stop, 1))


def parse_span(text: str, layers: int, cached: int) -> tuple[int, int]:
    """(first, stop) from a recipe: "auto", "FIRST:STOP" or "FIRST:end".

    Raises:
        UsageError: the text is none of these.
    """
    if text == "auto":
        return default_span(layers, cached)
    first, colon, stop = text.partition(":")
    if colon and first.isdigit() and (stop.isdigit() or stop == "end"):
        return int(first), layers if stop == "end" else int(stop)
    raise UsageError(f"inject is {text!r}, wanted 'auto', 'FIRST:STOP' or 'FIRST:end'")
