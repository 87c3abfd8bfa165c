"""The loop over the language model's layers, which inserts visual and prompt tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epalm.model.engine.packing import (
    PackedBatch,
    PackedLayout,
    TokenSplit,
    build_packed_layout,
)
from epalm.model.families.decoder_parts import DecoderParts, Rotations
from epalm.model.method.insertion import Insertion, LayerTokens, PackedTokens


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
        tokens: the tokens before the text.
        layouts: layout for each window of the language model's layers.
        rotations: rotations of the queries, which are all packed tokens without a split.
        split: the packed tokens that are keys and values only, and the queries; None if all are
            queries.
        key_rotations: rotations of the tokens that are keys and values only.
    """

    tokens: LayerTokens
    layouts: Mapping[int | None, PackedLayout]
    rotations: Rotations
    split: TokenSplit | None
    key_rotations: Rotations


@dataclass(frozen=True)
class DecoderLoop:
    """The loop over the layers for one batch.

    Attributes:
        parts: parts of the language model.
        insertion: tokens to insert.
        sequences: the texts.
        captured: receives each layer's keys and values, see `PackedLayout`; None to keep nothing.
    """

    parts: DecoderParts
    insertion: Insertion
    sequences: PackedBatch
    captured: dict[int, tuple[Tensor, Tensor]] | None = None

    def run(
        self,
        start: LayerInput,
        visual: Sequence[Tensor],
        *,
        stop: int | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """Run the decoder layers, replacing the visual tokens before each injected one.

        Args:
            start: input of the first layer that is run.
            visual: outputs of the connectors, (G * V, H) each; empty if all layers are below the
                injection.
            stop: layer after the last one that is run; None for all.
            read: (tokens) bool, text tokens whose output of the last layer is returned, at least
                one; None for all.

        Returns:
            Hidden states of these text tokens, (tokens, H).
        """
        tokens = PackedTokens(start.hidden, prompt=start.prompt)
        image_count = len(visual[0]) // self.insertion.visual_tokens if visual else 1
        arguments: LayerArguments | None = None
        last = len(self.parts.layers) - 1
        for index in range(start.layer, last + 1 if stop is None else stop):
            tokens = self.insertion.insert(index, tokens, visual, image_count)
            before_text = self.insertion.tokens_at(index)
            text = read if index == last and self.insertion.only_keys else None
            if arguments is None or arguments.tokens != before_text or text is not None:
                arguments = self._arguments(before_text, tokens, image_count, text)
            if len(tokens.hidden):
                tokens = self._run_layer(index, tokens, arguments)
        text_states = tokens.hidden[tokens.visual + tokens.prompt :]
        if read is None or self.insertion.only_keys:
            return text_states
        return text_states.index_select(0, read.nonzero().squeeze(1))

    def _run_layer(
        self, index: int, tokens: PackedTokens, arguments: LayerArguments
    ) -> PackedTokens:
        """The layer's output at the queries."""
        hidden, visual, prompt = tokens.hidden, tokens.visual, tokens.prompt
        keys = None
        if arguments.split is not None:
            before, hidden = arguments.split.apply(hidden)
            keys = before.unsqueeze(0), arguments.key_rotations
            visual *= not arguments.tokens.visual_is_key
            prompt *= not arguments.tokens.prompt_is_key
        layout = arguments.layouts[self.parts.kinds[index].window]
        output = self.parts.run_layer(
            index, hidden.unsqueeze(0), arguments.rotations, only_keys=keys, layout=layout
        )
        return PackedTokens(output.squeeze(0), visual, prompt)

    def _arguments(
        self,
        before_text: LayerTokens,
        tokens: PackedTokens,
        image_count: int,
        read: Tensor | None,
    ) -> LayerArguments:
        """Arguments of the layers that have these packed tokens before the text.

        Args:
            before_text: the tokens before the text.
            tokens: their hidden states and those of the text.
            image_count: number of images, G.
            read: (tokens) bool, text tokens that are queries; None for all.
        """
        visual, prompt = before_text.visual, before_text.prompt
        layout = build_packed_layout(
            self.sequences,
            image_count=image_count,
            visual=visual,
            prompt=prompt,
            shared_prompt=before_text.shared_prompt,
            visual_sees_all=self.insertion.plan.visual_sees_all,
            captured=self.captured,
        )
        positions = packed_positions(
            self.sequences.positions,
            visual=(visual, image_count),
            prompt=(prompt, 1 if before_text.shared_prompt else image_count),
        )
        split = TokenSplit.of(_queries(before_text, tokens, read))
        layouts = {kind.window: layout.within(kind.window) for kind in self.parts.kinds}
        key_rotations: Rotations = {}
        if split is not None:
            layouts = {window: layout.divided(split) for window, layout in layouts.items()}
            key_positions, positions = split.apply(positions)
            key_rotations = self.parts.rotations(tokens.hidden, key_positions)
        rotations = self.parts.rotations(tokens.hidden, positions)
        return LayerArguments(before_text, layouts, rotations, split, key_rotations)


def _queries(before_text: LayerTokens, tokens: PackedTokens, read: Tensor | None) -> Tensor:
    """(N) bool, whether each packed token is a query.

    Args:
        before_text: the tokens before the text.
        tokens: all packed tokens.
        read: (tokens) bool, text tokens that are queries; None for all.
    """
    before = tokens.visual + tokens.prompt
    is_query = torch.ones(len(tokens.hidden), dtype=torch.bool, device=tokens.hidden.device)
    is_query[: tokens.visual] = not before_text.visual_is_key
    is_query[tokens.visual : before] = not before_text.prompt_is_key
    if read is not None:
        is_query[before:] = read
    return is_query


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
