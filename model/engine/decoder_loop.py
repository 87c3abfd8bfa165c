"""The loop over the language model's layers, which inserts visual tokens and deep prompts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epalm.model.engine.packing import PackedBatch, PackedLayout, build_packed_layout
from epalm.model.method.injection import InjectionPlan
from epalm.model.method.prompt import DeepPrompt


@dataclass(frozen=True)
class LayerInput:
    """Hidden states that enter a layer.

    Attributes:
        hidden: (P + text tokens, H), prompt before text.
        prompt: number of prompt tokens, P.
        layer: index of the layer.
    """

    hidden: Tensor
    prompt: int
    layer: int = 0


@dataclass(frozen=True)
class Injection:
    """Tokens that are inserted between the layers.

    Attributes:
        plan: the feature that each layer receives.
        visual_tokens: number of visual tokens per image in a layer, V.
        prompt: deep prompt with new prompt tokens for every layer, or none.
    """

    plan: InjectionPlan
    visual_tokens: int
    prompt: DeepPrompt | None

    def visual_tokens_at(self, layer: int) -> int:
        """Number of visual tokens per image in this layer, 0 or V."""
        dropped = self.plan.tail == "drop" and layer >= self.plan.stop
        return 0 if layer < self.plan.first or dropped else self.visual_tokens

    def replace_prompt(self, hidden: Tensor, layer: int, image_count: int) -> Tensor:
        """The hidden states with the layer's own deep prompt at the prompt tokens."""
        if self.prompt is None or layer == 0:
            return hidden
        start = image_count * self.visual_tokens_at(layer)
        prompt = self.prompt(layer).to(hidden.dtype)
        prompts = prompt.repeat(1 if layer < self.plan.first else image_count, 1)
        return torch.cat([hidden[:start], prompts, hidden[start + len(prompts) :]])


def compile_layers(layers: Iterable[nn.Module], backend: str = "inductor") -> None:
    """Compile each layer once for batches of all sizes; layers of equal shape share the result.

    Args:
        layers: decoder layers of the language model.
        backend: backend of `torch.compile`.
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
    captured: dict[int, tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """Run the decoder layers, replacing the visual tokens before each injected one.

    Args:
        layers: decoder layers from layer 0 on; those below `start.layer` are skipped.
        injection: tokens to insert.
        start: input of the first layer that is run.
        visual: outputs of the connectors, (G * V, H) each; empty if all layers are below the
            injection.
        sequences: the texts.
        captured: receives each layer's keys and values, see `PackedLayout`.

    Returns:
        Hidden states of the text tokens, (tokens, H).
    """
    plan, hidden, prompt = injection.plan, start.hidden, start.prompt
    text_count = len(hidden) - prompt
    visual_count = len(visual[0]) if visual else 0
    image_count = visual_count // injection.visual_tokens or 1
    layout: PackedLayout | None = None
    for index in range(start.layer, len(layers)):
        feature = plan.feature_of_layer[index]
        if index == plan.first and feature is not None:
            prompts = hidden[:prompt].repeat(image_count, 1)
            hidden = torch.cat([visual[feature], prompts, hidden[prompt:]])
            layout = None
        elif index == plan.stop and plan.tail == "drop":
            hidden, layout = hidden[visual_count:], None
        elif feature is not None:
            hidden = torch.cat([visual[feature], hidden[visual_count:]])
        hidden = injection.replace_prompt(hidden, index, image_count)
        if layout is None:
            layout = build_packed_layout(
                sequences,
                image_count=image_count,
                visual=injection.visual_tokens_at(index),
                prompt=prompt,
                shared_prompt=index < plan.first,
                visual_sees_all=plan.visual_sees_all,
                captured=captured,
            )
        if len(hidden):
            hidden = layers[index](hidden.unsqueeze(0), layout=layout).squeeze(0)
    return hidden[len(hidden) - text_count :]
