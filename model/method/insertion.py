"""The visual and prompt tokens of each layer: which enter it, and whose outputs are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from epalm.model.method.injection import InjectionPlan
from epalm.model.method.prompt import DeepPrompt, SoftPrompt


@dataclass(frozen=True)
class LayerTokens:
    """The tokens before the text in a layer.

    Attributes:
        visual: number of visual tokens per image.
        prompt: number of prompt tokens per copy of the prompt.
        shared_prompt: whether all images share one copy of the prompt tokens.
        visual_is_key: whether visual tokens are keys and values only.
        prompt_is_key: whether prompt tokens are keys and values only.
    """

    visual: int
    prompt: int
    shared_prompt: bool
    visual_is_key: bool = False
    prompt_is_key: bool = False


@dataclass(frozen=True)
class PackedTokens:
    """Hidden states of a step's tokens in one tensor, [visual | prompt | text].

    Attributes:
        hidden: (N, H) hidden states.
        visual: number of visual tokens of all images.
        prompt: number of prompt tokens in all copies.
    """

    hidden: Tensor
    visual: int = 0
    prompt: int = 0

    @property
    def prompt_states(self) -> Tensor:
        """Hidden states of the prompt tokens."""
        return self.hidden[self.visual : self.visual + self.prompt]

    def replaced(self, visual: Tensor | None, prompt: Tensor | None) -> "PackedTokens":
        """The same text after other visual or prompt tokens; None leaves those that are there."""
        if visual is None and prompt is None:
            return self
        before = self.visual + self.prompt
        visual = self.hidden[: self.visual] if visual is None else visual
        prompt = self.prompt_states if prompt is None else prompt
        hidden = torch.cat([visual, prompt, self.hidden[before:]])
        return PackedTokens(hidden, len(visual), len(prompt))


@dataclass(frozen=True)
class Insertion:
    """Tokens that are inserted between the layers.

    Attributes:
        plan: the feature that each layer receives.
        visual_tokens: number of visual tokens per image in a layer, V.
        prompt: the prompt, or none.
        only_keys: whether tokens whose output no layer reads are computed as keys and values only.
            Prompt tokens that are new in every layer are then the same for all images.
    """

    plan: InjectionPlan
    visual_tokens: int = 1
    prompt: SoftPrompt | DeepPrompt | None = None
    only_keys: bool = False

    def insert(
        self, index: int, tokens: PackedTokens, visual: Sequence[Tensor], image_count: int
    ) -> PackedTokens:
        """The tokens that enter a layer.

        Args:
            index: index of the layer.
            tokens: output of the previous layer.
            visual: outputs of the connectors, (G * V, H) each.
            image_count: number of images, G.
        """
        feature = self.plan.feature_of_layer[index]
        fresh = None if feature is None else visual[feature]
        if self._drops(index) and tokens.visual:
            fresh = tokens.hidden[:0]
        prompt = None if self.prompt is None else self.prompt.entering(index)
        if prompt is not None:
            prompt = prompt.to(tokens.hidden.dtype)
        elif index == self.plan.first and tokens.prompt:
            prompt = tokens.prompt_states
        if prompt is not None and not self._shares_prompt(index):
            prompt = prompt.repeat(image_count, 1)
        return tokens.replaced(fresh, prompt)

    def tokens_at(self, index: int) -> LayerTokens:
        """The tokens before the text in a layer."""
        return LayerTokens(
            self.visual_tokens_at(index),
            self.prompt_tokens_at(index),
            self._shares_prompt(index),
            self.only_keys and not self._visual_is_read(index),
            self.only_keys and not self._prompt_is_read(index),
        )

    def visual_tokens_at(self, index: int) -> int:
        """Number of visual tokens per image in a layer, 0 or V."""
        return 0 if index < self.plan.first or self._drops(index) else self.visual_tokens

    def prompt_tokens_at(self, index: int) -> int:
        """Number of prompt tokens in a layer, 0 or P."""
        return 0 if self.prompt is None or index < self.prompt.first else self.prompt.length

    def _drops(self, index: int) -> bool:
        """Whether a layer has lost the visual tokens of the layers before it."""
        return self.plan.tail == "drop" and index >= self.plan.stop

    def _shares_prompt(self, index: int) -> bool:
        """Whether the prompt tokens of a layer are the same for all images."""
        return index < self.plan.first or (self.only_keys and isinstance(self.prompt, DeepPrompt))

    def _visual_is_read(self, index: int) -> bool:
        """Whether the next layer reads this layer's output at the visual tokens."""
        after = index + 1
        features = self.plan.feature_of_layer
        return after < len(features) and features[after] is None and not self._drops(after)

    def _prompt_is_read(self, index: int) -> bool:
        """Whether the next layer reads this layer's output at the prompt tokens."""
        return index + 1 < len(self.plan.feature_of_layer) and isinstance(self.prompt, SoftPrompt)
