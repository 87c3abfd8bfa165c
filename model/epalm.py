"""eP-ALM: a frozen OPT, connectors from cached [CLS] vectors, and a soft prompt."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers import OPTForCausalLM

from epalm.errors import ModelError
from epalm.model.engine.decoder_loop import Injection, LayerInput, run_layers
from epalm.model.engine.input_embedding import embed_rows
from epalm.model.engine.losses import TokenLosses, head_losses
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.engine.packed_attention import Prefix, TextDependentToken, text_dependent_token
from epalm.model.engine.packing import PackedBatch
from epalm.model.engine.quantized import weight_count
from epalm.model.method.adapter import Adapters
from epalm.model.method.connector import Connectors
from epalm.model.method.injection import InjectionPlan
from epalm.model.method.prompt import DeepPrompt, SoftPrompt

CANNOT_GENERATE = (
    "tail 'official' lets a visual row that reads the text into more than the last layer, so that "
    "no text can be kept for the next step of generation: inject up to the last layer but one with "
    "text_step 1, or use tail 'causal' or 'drop'"
)
"""Why a plan is refused, see `InjectionPlan.can_generate`."""

POSITION_OFFSET = 2
"""OPT's position table starts with two rows that belong to no position (row 1: padding)."""


TRAINED = ("connectors", "prompt", "adapters")
"""The parts of `EPALM` that are trained unless it is told otherwise."""


class EPALM(nn.Module):
    """The whole model; the parts named in `trained` learn."""

    places: Tensor | None

    def __init__(
        self,
        language_model: OPTForCausalLM,
        connectors: Connectors,
        prompt: SoftPrompt | DeepPrompt | None,
        plan: InjectionPlan,
        *,
        adapters: Adapters | None = None,
        lm_dropout: float = 0.0,
        places: Sequence[int] | None = None,
        visual: int = 1,
        trained: Sequence[str] = TRAINED,
    ) -> None:
        """Put the parts together.

        Args:
            language_model: frozen, see `epalm.model.engine.language_model.freeze`.
            connectors: D to H.
            prompt: soft prompt of the word embedding's width, deep prompt of width H, or none.
            plan: which layer receives which cached vector.
            adapters: attached to the language model here, or none.
            lm_dropout: hidden dropout of the frozen OPT while training; the released code
                leaves OPT's own 0.1 on.
            places: which of a record's stored vectors are injected, `visual` for each connector;
                None for all.
            visual: rows that each picture has in a layer, V.
            trained: the parts that are trained.
        """
        super().__init__()
        if len(plan.source) != len(language_model.model.decoder.layers):
            raise ModelError(
                f"the plan has {len(plan.source)} layers, "
                f"the language model {len(language_model.model.decoder.layers)}"
            )
        self.language_model = language_model
        self.connectors = connectors
        self.prompt = prompt
        self.plan = plan
        self.lm_dropout = lm_dropout
        self.visual = visual
        self.trained = tuple(trained)
        chosen = None if places is None else torch.tensor(places)
        self.register_buffer("places", chosen, persistent=False)
        language_model.requires_grad_("language_model" in trained)
        self.adapters = adapters
        for layer in language_model.model.decoder.layers:
            layer.dropout = lm_dropout
        if adapters is not None:
            adapters.attach(language_model.model.decoder.layers)

    def train(self, mode: bool = True) -> "EPALM":  # noqa: FBT001, FBT002 - torch's signature
        """Train mode for the trained parts; the frozen model follows only for its dropout."""
        super().train(mode)
        self.language_model.train(mode and self.lm_dropout > 0)
        return self

    def forward(self, batch: Batch, label_smoothing: float = 0.0) -> TokenLosses:
        """Cross-entropies at the supervised positions; logits exist for no other position.

        Args:
            batch: right-padded, on the model's device.
            label_smoothing: mass spread over the vocabulary.
        """
        present = self._present(batch.attention_mask)
        hidden = self.text_states(
            batch.tokens,
            batch.input_ids,
            batch.attention_mask,
            pictures=batch.pictures,
            lower=batch.lower,
        )
        targets = batch.labels.roll(-1, dims=1)
        targets[:, -1] = IGNORED
        flat_targets = targets[present]
        rows = (flat_targets != IGNORED).nonzero().squeeze(1)
        values = head_losses(
            self._before_head(hidden.index_select(0, rows)),
            self.language_model.lm_head,
            flat_targets[rows],
            label_smoothing=label_smoothing,
        )
        samples = present.nonzero()[:, 0][rows]
        return TokenLosses(values, samples, len(batch.input_ids))

    def logits(self, states: Tensor) -> Tensor:
        """(..., vocabulary) from the last layer's states (..., H): final norm, projection, head."""
        head: Tensor = self.language_model.lm_head(self._before_head(states))
        return head

    def _before_head(self, states: Tensor) -> Tensor:
        """(..., word embedding's width) from (..., H)."""
        decoder = self.language_model.model.decoder
        for part in (decoder.final_layer_norm, decoder.project_out):
            if part is not None:
                states = part(states)
        return states

    def text_states(
        self,
        tokens: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        pictures: Tensor | None = None,
        lower: Tensor | None = None,
    ) -> Tensor:
        """Last layer's states of the text rows, in order of sample and position.

        Args:
            tokens: (G, L, D) stored vectors.
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64. Every sequence's first position must be real.
            pictures: (B) int64, see `Batch`; None if each sample has its own.
            lower: (rows, H), what `lower_states` gave for these texts; None to compute it here.

        Returns:
            (rows, H): one per real token; with the official tail one per position, since its
            visual query reads the padding too.
        """
        present = self._present(attention_mask)
        if pictures is None:
            pictures = torch.arange(len(tokens), device=tokens.device)
        elif self.plan.visual_sees_all:  # a visual row that reads a text serves no other
            tokens, pictures = tokens[pictures], torch.arange(len(pictures), device=tokens.device)
        sequences = PackedBatch(present, attention_mask.bool(), pictures)
        if lower is None:
            start = LayerInput(*self._embed(input_ids, attention_mask))
        else:
            start = LayerInput(lower.to(self._dtype), 0, self.plan.first)
        return self._run(self._visual_states(tokens), start, sequences)

    @property
    def text_is_apart(self) -> bool:
        """Whether what a text is below the first injected layer depends on nothing that learns."""
        learns = self.prompt or self.adapters or "language_model" in self.trained
        return not learns and self.lm_dropout == 0 and self.plan.first > 0

    def lower_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States of the text rows where the first picture comes in, see `text_states`.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64.

        Returns:
            (rows, H) in the language model's dtype, without gradient.

        Raises:
            ModelError: they change while the model learns.
        """
        if not self.text_is_apart:
            raise ModelError("the states of texts below the injection depend on what is trained")
        present = self._present(attention_mask)
        pictures = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
        start = LayerInput(*self._embed(input_ids, attention_mask))
        sequences = PackedBatch(present, attention_mask.bool(), pictures)
        with torch.no_grad():
            return self._run([], start, sequences, stop=self.plan.first)

    def prefix(self, tokens: Tensor) -> Prefix:
        """Keys and values of visual and prompt rows per layer, for generation.

        Args:
            tokens: (G, L, D) stored vectors of G pictures.

        Raises:
            ModelError: with the plan's tail "official" text that was read before depends on text
                that comes later, see `InjectionPlan.can_generate`.
        """
        if not self.plan.can_generate:
            raise ModelError(CANNOT_GENERATE)
        recorded: dict[int, tuple[Tensor, Tensor]] = {}
        none = torch.zeros(len(tokens), 0, dtype=torch.bool, device=tokens.device)
        pictures = torch.arange(len(tokens), device=tokens.device)
        start = LayerInput(*self._embed(none.long(), none.long()))
        visual = self._visual_states(tokens)
        self._run(visual, start, PackedBatch(none, none, pictures), recorded=recorded)
        layers = tuple(recorded.get(layer) for layer in range(len(self.plan.source)))
        carry = self._carry(tokens) if self.plan.visual_sees_all else None
        return Prefix(layers, carry)

    def _carry(self, tokens: Tensor) -> TextDependentToken:
        """The visual row that reads the text, see `TextDependentToken`."""
        decoder = self.language_model.model.decoder
        rows = self._visual_states(tokens)[self.plan.source[-2] or 0]
        return text_dependent_token(decoder.layers, rows)

    def _visual_states(self, tokens: Tensor) -> list[Tensor]:
        """(G, L, D) stored vectors to what each connector makes of them, (G * V, H)."""
        chosen = tokens if self.places is None else tokens.index_select(1, self.places)
        by_row = chosen.unflatten(1, (-1, self.visual)).transpose(1, 2).flatten(0, 1)
        return [states.to(self._dtype) for states in self.connectors(by_row)]

    @property
    def _dtype(self) -> torch.dtype:
        """What the language model computes in."""
        dtype: torch.dtype = self.language_model.model.decoder.embed_tokens.weight.dtype
        return dtype

    def _present(self, attention_mask: Tensor) -> Tensor:
        present = attention_mask.bool()
        return torch.ones_like(present) if self.plan.visual_sees_all else present

    def _run(
        self,
        visual: Sequence[Tensor],
        start: LayerInput,
        sequences: PackedBatch,
        *,
        stop: int | None = None,
        recorded: dict[int, tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """The text rows' states (rows, H) behind layer `stop` - 1; see `run_layers`."""
        layers = list(self.language_model.model.decoder.layers)[:stop]
        deep = self.prompt if isinstance(self.prompt, DeepPrompt) else None
        injection = Injection(self.plan, self.visual, deep)
        return run_layers(
            layers, injection, start, visual=visual, sequences=sequences, recorded=recorded
        )

    def _embed(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, int]:
        """Rows [prompt | text] (P + text rows, H) that enter layer 0, and P."""
        present = self._present(attention_mask)
        positions = (attention_mask.cumsum(1) * attention_mask - 1 + POSITION_OFFSET)[present]
        decoder = self.language_model.model.decoder
        rows, prompt = embed_rows(decoder, self.prompt, input_ids[present], positions=positions)
        return dropout(rows, self.lm_dropout, training=self.language_model.training), prompt


def parameter_counts(model: EPALM) -> tuple[int, int]:
    """How many parameters are trained, and how many of the language model's are frozen."""
    trained = sum(weight.numel() for _, weight in trainable(model))
    frozen = 0 if "language_model" in model.trained else weight_count(model.language_model)
    return trained, frozen


def trainable(model: EPALM) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of everything that is trained, checked to be all that can be.

    Raises:
        ModelError: something else requires a gradient, or a trained part does not.
    """
    for name, parameter in model.named_parameters():
        wanted = name.split(".")[0] in model.trained
        if parameter.requires_grad != wanted:
            state = "is frozen" if wanted else "requires a gradient"
            raise ModelError(
                f"parameter {name} {state}, trained are only {', '.join(model.trained)}"
            )
        if wanted:
            yield name, parameter
