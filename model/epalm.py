"""The eP-ALM model: a frozen language model, connectors from cached features, and a soft prompt.

In this package an "image" is any encoded sample: an image, a video or an audio clip.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers import PreTrainedModel

from epalm.errors import ModelError
from epalm.model.engine.decoder_loop import DecoderLoop, LayerInput
from epalm.model.engine.input_embedding import embed_inputs
from epalm.model.engine.losses import TokenLosses, head_losses
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.engine.packed_attention import (
    Prefix,
    TextDependentToken,
    add_only_keys,
    text_dependent_token,
)
from epalm.model.engine.packing import PackedBatch
from epalm.model.engine.quantized import weight_count
from epalm.model.families.decoder_parts import decoder_parts
from epalm.model.method.adapter import Adapters
from epalm.model.method.injection import CANNOT_GENERATE, InjectionPlan
from epalm.model.method.insertion import Insertion
from epalm.model.method.joined_connectors import AnyConnectors
from epalm.model.method.prompt import DeepPrompt, SoftPrompt

TRAINED = ("connectors", "prompt", "adapters")
"""The parts of `EPALM` that are trained by default."""


class EPALM(nn.Module):
    """The whole model: frozen language model, connectors, prompt and adapters."""

    feature_indices: Tensor | None

    def __init__(
        self,
        language_model: PreTrainedModel,
        connectors: AnyConnectors,
        prompt: SoftPrompt | DeepPrompt | None,
        plan: InjectionPlan,
        *,
        adapters: Adapters | None = None,
        lm_dropout: float = 0.0,
        feature_indices: Sequence[int] | None = None,
        trained: Sequence[str] = TRAINED,
        only_keys: bool = False,
    ) -> None:
        """Assemble the parts and attach the adapters to the language model.

        Args:
            language_model: frozen, see `epalm.model.engine.language_model.freeze`.
            connectors: maps from width D to width H; their number of visual tokens per image in a
                layer is V.
            prompt: soft prompt of the word embedding's width, late or deep prompt of width H, or
                none.
            plan: the cached feature that each layer receives.
            adapters: adapters for the language model's layers, or none.
            lm_dropout: hidden dropout of the frozen language model while training; the official
                implementation leaves OPT's own 0.1 on.
            feature_indices: indices of the stored features that the connectors read; None for all.
            trained: names of the parts that are trained.
            only_keys: whether training computes tokens whose output nothing reads as keys and
                values only, see `epalm.model.method.insertion.Insertion`.
        """
        super().__init__()
        self.parts = decoder_parts(language_model)
        if len(plan.feature_of_layer) != len(self.parts.layers):
            raise ModelError(
                f"the plan has {len(plan.feature_of_layer)} layers, "
                f"the language model {len(self.parts.layers)}"
            )
        self.language_model = language_model
        self.connectors = connectors
        self.prompt = prompt
        self.plan = plan
        self.lm_dropout = lm_dropout
        self.visual_tokens = connectors.visual_tokens
        self.trained = tuple(trained)
        self.only_keys = only_keys
        indices = None if feature_indices is None else torch.tensor(feature_indices)
        self.register_buffer("feature_indices", indices, persistent=False)
        language_model.requires_grad_("language_model" in trained)
        self.adapters = adapters
        self.parts.set_dropout(lm_dropout)
        if adapters is not None:
            adapters.attach(self.parts)
        if only_keys:
            add_only_keys(self.parts.layers)

    def train(self, mode: bool = True) -> "EPALM":  # noqa: FBT001, FBT002 - torch's signature
        """Set train mode; the frozen language model enters it only if it has dropout."""
        super().train(mode)
        self.language_model.train(mode and self.lm_dropout > 0)
        return self

    def forward(
        self, batch: Batch, label_smoothing: float = 0.0, *, with_prompt: bool = True
    ) -> TokenLosses:
        """Cross-entropies at the supervised positions; no other logits are computed.

        Args:
            batch: right-padded batch on the model's device.
            label_smoothing: probability mass spread over the vocabulary.
            with_prompt: whether the prompt's tokens are before the text; otherwise there are none.
        """
        present = self._present(batch.attention_mask)
        targets = batch.labels.roll(-1, dims=1)
        targets[:, -1] = IGNORED
        flat_targets = targets[present]
        read = flat_targets != IGNORED
        supervised = read.nonzero().squeeze(1)
        hidden = self.last_hidden_states(
            batch.features,
            batch.input_ids,
            batch.attention_mask,
            image_index=batch.image_index,
            text_states=batch.text_states,
            read=read if len(supervised) else None,
            with_prompt=with_prompt,
        )
        values = head_losses(
            self.parts.before_head(hidden[: len(supervised)]),
            self.parts.head,
            flat_targets[supervised],
            softcap=self.parts.logit_softcap,
            label_smoothing=label_smoothing,
        )
        examples = present.nonzero()[:, 0][supervised]
        return TokenLosses(values, examples, len(batch.input_ids))

    def logits(self, states: Tensor) -> Tensor:
        """Logits (..., vocabulary) from the last layer's hidden states (..., H)."""
        return self.parts.logits(self.parts.before_head(states))

    def last_hidden_states(
        self,
        features: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        image_index: Tensor | None = None,
        text_states: Tensor | None = None,
        read: Tensor | None = None,
        with_prompt: bool = True,
    ) -> Tensor:
        """The last layer's hidden states of the text tokens, ordered by example and position.

        Args:
            features: (G, L, D) stored features.
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64. The first position of every text must be real.
            image_index: (B) int64, see `Batch`; None if each text has its own image.
            text_states: (tokens, H), cached result of `lower_text_states` for these texts; None to
                compute it here.
            read: (tokens) bool, tokens whose hidden states are returned, at least one; None for
                all.
            with_prompt: whether the prompt's tokens are before the text.

        Returns:
            (tokens, H): one per real token that is read. With the tail "official" one per position,
            since the visual token attends to padding too.
        """
        present = self._present(attention_mask)
        if image_index is None:
            image_index = torch.arange(len(features), device=features.device)
        elif self.plan.visual_sees_all:  # a visual token that attends to a text is that text's own
            features = features[image_index]
            image_index = torch.arange(len(image_index), device=features.device)
        sequences = PackedBatch(present, attention_mask.bool(), image_index)
        insertion = self.insertion if with_prompt else replace(self.insertion, prompt=None)
        if text_states is None:
            start = LayerInput(*self._embed(input_ids, sequences, insertion))
        else:
            start = LayerInput(text_states.to(self.parts.dtype), 0, self.plan.first)
        loop = DecoderLoop(self.parts, insertion, sequences)
        return loop.run(start, self._visual_states(features), read=read)

    @property
    def insertion(self) -> Insertion:
        """The tokens that are inserted in training."""
        return Insertion(self.plan, self.visual_tokens, self.prompt, self.only_keys)

    @property
    def can_cache_text_states(self) -> bool:
        """Whether training never changes the text's hidden states below the first injection."""
        own = (part for part in (self.prompt, self.adapters) if part is not None)
        below = any(part.first < self.plan.first for part in own)
        trained_below = below or "language_model" in self.trained
        return not trained_below and self.lm_dropout == 0 and self.plan.first > 0

    def lower_text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states of the text tokens below the first injected layer.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64.

        Returns:
            (tokens, H) as in `last_hidden_states`, in the language model's dtype, without gradient.

        Raises:
            ModelError: training changes these states, see `can_cache_text_states`.
        """
        if not self.can_cache_text_states:
            raise ModelError("the hidden states below the injection depend on trained parameters")
        present = self._present(attention_mask)
        image_index = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
        sequences = PackedBatch(present, attention_mask.bool(), image_index)
        start = LayerInput(*self._embed(input_ids, sequences, self.insertion))
        with torch.no_grad():
            loop = DecoderLoop(self.parts, self.insertion, sequences)
            return loop.run(start, [], stop=self.plan.first)

    def prefix(self, features: Tensor) -> Prefix:
        """Keys and values of the visual and prompt tokens in each layer, for generation.

        Args:
            features: (G, L, D) stored features of G images.

        Raises:
            ModelError: the plan does not allow cached generation, see
                `InjectionPlan.can_generate`.
        """
        if not self.plan.can_generate:
            raise ModelError(CANNOT_GENERATE)
        captured: dict[int, tuple[Tensor, Tensor]] = {}
        no_text = torch.zeros(len(features), 0, dtype=torch.bool, device=features.device)
        image_index = torch.arange(len(features), device=features.device)
        sequences = PackedBatch(no_text, no_text, image_index)
        insertion = replace(self.insertion, only_keys=False)  # there is no text to compute instead
        start = LayerInput(*self._embed(no_text.long(), sequences, insertion))
        loop = DecoderLoop(self.parts, insertion, sequences, captured)
        loop.run(start, self._visual_states(features))
        layers = tuple(captured.get(layer) for layer in range(len(self.plan.feature_of_layer)))
        text_dependent = self._text_dependent(features) if self.plan.visual_sees_all else None
        return Prefix(layers, text_dependent)

    def _text_dependent(self, features: Tensor) -> TextDependentToken:
        """The visual token that attends to the text, see `TextDependentToken`."""
        states = self._visual_states(features)[self.plan.feature_of_layer[-2] or 0]
        prompt = 0 if self.prompt is None else self.prompt.length
        return text_dependent_token(self.parts, states, -prompt - 1)

    def _visual_states(self, features: Tensor) -> list[Tensor]:
        """Each connector's output (G * V, H) for the stored features (G, L, D)."""
        indices = self.feature_indices
        used = features if indices is None else features.index_select(1, indices)
        return [states.to(self.parts.dtype) for states in self.connectors(used)]

    def _present(self, attention_mask: Tensor) -> Tensor:
        """(B, T) bool, whether the token at each text position is computed."""
        present = attention_mask.bool()
        return torch.ones_like(present) if self.plan.visual_sees_all else present

    def _embed(
        self, input_ids: Tensor, sequences: PackedBatch, insertion: Insertion
    ) -> tuple[Tensor, int]:
        """Input [prompt | text] (P + text tokens, H) of layer 0, and P."""
        ids, positions = input_ids[sequences.present], sequences.positions
        hidden, prompt = embed_inputs(self.parts, insertion.prompt, ids, positions=positions)
        return dropout(hidden, self.lm_dropout, training=self.language_model.training), prompt


def parameter_counts(model: EPALM) -> tuple[int, int]:
    """Number of trained parameters, and of frozen parameters of the language model."""
    trained = sum(weight.numel() for _, weight in trainable_parameters(model))
    frozen = 0 if "language_model" in model.trained else weight_count(model.language_model)
    return trained, frozen


def trainable_parameters(model: EPALM) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of the trained parts.

    Raises:
        ModelError: a parameter of another part requires a gradient, or a trained part's does not.
    """
    for name, parameter in model.named_parameters():
        trained = name.split(".")[0] in model.trained
        if parameter.requires_grad != trained:
            state = "is frozen" if trained else "requires a gradient"
            raise ModelError(
                f"parameter {name} {state}, trained are only {', '.join(model.trained)}"
            )
        if trained:
            yield name, parameter
