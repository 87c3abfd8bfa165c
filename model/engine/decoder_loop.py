"""The loop over the language model's layers, which inserts visual tokens and deep prompts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epalm.model.engine.packing import PackedBatch, PackedLayout, build_packed_layout
from epalm.model.families.decoder_parts import DecoderParts, Rotations
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


@dataclass(frozen=True)
class LayerArguments:
    """Arguments of the layers, the same for all layers with the same packed tokens.

    Attributes:
        layouts: layout for each window of the language model's layers.
        rotations: rotations of the packed tokens.
    """

    layouts: Mapping[int | None, PackedLayout]
    rotations: Rotations


@dataclass(frozen=True)
class DecoderLoop:
    """The loop over the layers for one batch.

    Attributes:
        parts: parts of the language model.
        injection: tokens to insert.
        sequences: the texts.
        captured: receives each layer's keys and values, see `PackedLayout`; None to keep nothing.
    """

    parts: DecoderParts
    injection: Injection
    sequences: PackedBatch
    captured: dict[int, tuple[Tensor, Tensor]] | None = None

    def run(self, start: LayerInput, visual: Sequence[Tensor], stop: int | None = None) -> Tensor:
        """Run the decoder layers, replacing the visual tokens before each injected one.

        Args:
            start: input of the first layer that is run.
            visual: outputs of the connectors, (G * V, H) each; empty if all layers are below the
                injection.
            stop: layer after the last one that is run; None for all.

        Returns:
            Hidden states of the text tokens, (tokens, H).
        """
        plan, hidden, prompt = self.injection.plan, start.hidden, start.prompt
        text_count = len(hidden) - prompt
        visual_count = len(visual[0]) if visual else 0
        image_count = visual_count // self.injection.visual_tokens or 1
        arguments: LayerArguments | None = None
        for index in range(start.layer, len(self.parts.layers) if stop is None else stop):
            feature = plan.feature_of_layer[index]
            if index == plan.first and feature is not None:
                prompts = hidden[:prompt].repeat(image_count, 1)
                hidden = torch.cat([visual[feature], prompts, hidden[prompt:]])
                arguments = None
            elif index == plan.stop and plan.tail == "drop":
                hidden, arguments = hidden[visual_count:], None
            elif feature is not None:
                hidden = torch.cat([visual[feature], hidden[visual_count:]])
            hidden = self.injection.replace_prompt(hidden, index, image_count)
            if arguments is None:
                arguments = self._arguments(index, hidden, prompt, image_count)
            if len(hidden):
                hidden = self._run_layer(index, hidden, arguments)
        return hidden[len(hidden) - text_count :]

    def _run_layer(self, index: int, hidden: Tensor, arguments: LayerArguments) -> Tensor:
        layout = arguments.layouts[self.parts.kinds[index].window]
        packed = hidden.unsqueeze(0)
        return self.parts.run_layer(index, packed, arguments.rotations, layout=layout).squeeze(0)

    def _arguments(
        self, index: int, hidden: Tensor, prompt: int, image_count: int
    ) -> LayerArguments:
        """Arguments of the layers from `index` on that have the packed tokens of `hidden`."""
        plan, visual = self.injection.plan, self.injection.visual_tokens_at(index)
        shared_prompt = index < plan.first
        layout = build_packed_layout(
            self.sequences,
            image_count=image_count,
            visual=visual,
            prompt=prompt,
            shared_prompt=shared_prompt,
            visual_sees_all=plan.visual_sees_all,
            captured=self.captured,
        )
        layouts = {kind.window: layout.within(kind.window) for kind in self.parts.kinds}
        positions = packed_positions(
            self.sequences.positions,
            visual=(visual, image_count),
            prompt=(prompt, 1 if shared_prompt else image_count),
        )
        return LayerArguments(layouts, self.parts.rotations(hidden, positions))


def packed_positions(text: Tensor, *, visual: tuple[int, int], prompt: tuple[int, int]) -> Tensor:
    """Positions of packed tokens [visual | prompt | text]: the text begins at 0.

    Rotary embeddings depend on differences of positions only. So with negative positions before
    the text, it stays at the language model's own positions, with and without an image.

    Args:
        text: (tokens) int64, positions of the text tokens.
        visual: number of visual tokens per image, V, and number of images.
        prompt: number of prompt tokens, P, and number of copies of them.

    Returns:
        (N) int64: -P - V .. -P - 1 for visual tokens, -P .. -1 for prompt tokens.
    """
    before = torch.arange(-prompt[0] - visual[0], 0, device=text.device)
    visual_positions = before[: visual[0]].repeat(visual[1])
    prompt_positions = before[visual[0] :].repeat(prompt[1])
    return torch.cat([visual_positions, prompt_positions, text])
