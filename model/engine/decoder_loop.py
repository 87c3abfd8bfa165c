"""The loop over the language model's layers, where pictures and prompts come in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epalm.model.engine.packing import PackedBatch, PackedLayout, build_packed_layout
from epalm.model.method.injection import InjectionPlan
from epalm.model.method.prompt import DeepPrompt


@dataclass(frozen=True)
class LayerInput:
    """What enters a layer.

    Attributes:
        hidden: (P + text rows, H), prompt before text.
        prompt: P.
        layer: its number.
    """

    hidden: Tensor
    prompt: int
    layer: int = 0


@dataclass(frozen=True)
class Injection:
    """What comes in between the layers.

    Attributes:
        plan: which layer receives which vectors.
        visual: rows that each picture has in a layer, V.
        prompt: new prompt rows for every layer, if they are deep.
    """

    plan: InjectionPlan
    visual: int
    prompt: DeepPrompt | None

    def rows_at(self, layer: int) -> int:
        """Visual rows of each picture at a layer, 0 or V."""
        dropped = self.plan.tail == "drop" and layer >= self.plan.stop
        return 0 if layer < self.plan.first or dropped else self.visual

    def renew_prompt(self, hidden: Tensor, layer: int, count: int) -> Tensor:
        """The rows with the layer's own vectors in place of the prompt rows."""
        if self.prompt is None or layer == 0:
            return hidden
        start = count * self.rows_at(layer)
        vectors = self.prompt(layer).to(hidden.dtype)
        renewed = vectors.repeat(1 if layer < self.plan.first else count, 1)
        return torch.cat([hidden[:start], renewed, hidden[start + len(renewed) :]])


def compile_layers(layers: Iterable[nn.Module], backend: str = "inductor") -> None:
    """Compile each layer once for steps of all sizes; layers of one shape share the result.

    Args:
        layers: of the language model.
        backend: of `torch.compile`.
    """
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)


def run_layers(
    layers: Sequence[nn.Module],
    injection: Injection,
    start: LayerInput,
    *,
    visual: Sequence[Tensor],
    sequences: PackedBatch,
    recorded: dict[int, tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """Pass rows through layers, overwriting the visual rows before each injected one.

    Args:
        layers: from layer 0 on; those below `start.layer` are left out.
        injection: what comes in between.
        start: what enters the first of them.
        visual: what each connector gave, (G * V, H); empty if all layers lie below the injection.
        sequences: the texts.
        recorded: see `PackedLayout`.

    Returns:
        (rows, H), the text rows' states.
    """
    plan, hidden, prompt = injection.plan, start.hidden, start.prompt
    text = len(hidden) - prompt
    seen = len(visual[0]) if visual else 0
    count = seen // injection.visual or 1
    layout: PackedLayout | None = None
    for index in range(start.layer, len(layers)):
        source = plan.source[index]
        if index == plan.first and source is not None:
            hidden = torch.cat([visual[source], hidden[:prompt].repeat(count, 1), hidden[prompt:]])
            layout = None
        elif index == plan.stop and plan.tail == "drop":
            hidden, layout = hidden[seen:], None
        elif source is not None:
            hidden = torch.cat([visual[source], hidden[seen:]])
        hidden = injection.renew_prompt(hidden, index, count)
        if layout is None:
            layout = build_packed_layout(
                sequences,
                count=count,
                visual=injection.rows_at(index),
                prompt=prompt,
                shared_prompt=index < plan.first,
                visual_sees_all=plan.visual_sees_all,
                recorded=recorded,
            )
        if len(hidden):
            hidden = layers[index](hidden.unsqueeze(0), layout=layout).squeeze(0)
    return hidden[len(hidden) - text :]
