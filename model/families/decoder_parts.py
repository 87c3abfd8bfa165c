"""The parts of a language model that the loop over its layers needs, for any family."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from epalm.errors import ModelError
from epalm.model.families.family import FAMILIES, family_of

FULL, SLIDING = "full_attention", "sliding_attention"
"""Kinds of layers, as in the `layer_types` of config.json."""

Rotations = Mapping[str, tuple[Tensor, Tensor]]
"""For each kind of layer, cosine and sine (1, N, rotated width) of N tokens; empty for learned
positions."""


@dataclass(frozen=True)
class LayerKind:
    """Kind of a decoder layer.

    Attributes:
        name: `FULL` or `SLIDING`.
        window: number of text positions, the own one included, to which a text token attends;
            None for all.
    """

    name: str = FULL
    window: int | None = None


@dataclass(frozen=True, eq=False)  # equal only to itself, like its modules
class DecoderParts:
    """Parts of a language model. They are no submodules of this object: no weight is named twice.

    Attributes:
        body: module that maps token ids to the head's input.
        layers: decoder layers.
        word_embedding: embedding of token ids, of width w.
        head: linear map from width w to the vocabulary.
        project_in: map from width w to the layers' width H, or none if they are equal.
        project_out: map from width H to w after the final norm, or none.
        final_norm: norm after the last layer, or none.
        position_table: learned position embeddings, or none.
        position_offset: number of unused entries at the start of that table.
        rotary: rotary embedding, or none.
        rotation_per_kind: whether each kind of layer has its own rotation.
        kinds: kind of each layer.
        sublayers: names within a layer of the maps whose outputs adapters change, attention first.
        heads: number of query heads.
        key_value_heads: number of key and value heads.
        head_width: width of a head.
        attention_softcap: bound of the attention scores, or none. For estimates only: layers pass
            their own to the attention function.
        logit_softcap: bound of the logits, or none.
        dropout: names within a layer of its hidden dropout probabilities; empty if it has none.
    """

    body: nn.Module
    layers: nn.ModuleList
    word_embedding: nn.Embedding
    head: nn.Linear
    project_in: nn.Module | None
    project_out: nn.Module | None
    final_norm: nn.Module | None
    position_table: nn.Embedding | None
    position_offset: int
    rotary: nn.Module | None
    rotation_per_kind: bool
    kinds: tuple[LayerKind, ...]
    sublayers: tuple[str, str]
    heads: int
    key_value_heads: int
    head_width: int
    attention_softcap: float | None
    logit_softcap: float | None
    dropout: tuple[str, ...]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the language model computes."""
        return self.word_embedding.weight.dtype

    def rotations(self, states: Tensor, positions: Tensor) -> Rotations:
        """Rotations of N tokens, of the dtype that the layers expect.

        Args:
            states: any tensor with the device and dtype of the hidden states.
            positions: (N) int64; negative for tokens before the text. Without any, the result is
                empty.
        """
        if self.rotary is None or not len(positions):
            return {}
        names = {kind.name for kind in self.kinds}
        if self.rotation_per_kind:
            return {name: self.rotary(states, positions[None], name) for name in sorted(names)}
        return dict.fromkeys(names, self.rotary(states, positions[None]))

    def run_layer(
        self,
        index: int,
        hidden: Tensor,
        rotations: Rotations,
        only_keys: tuple[Tensor, Rotations] | None = None,
        **arguments: Any,  # noqa: ANN401 - arguments of the attention function
    ) -> Tensor:
        """Output (1, N, H) of a layer for packed hidden states (1, N, H).

        Args:
            index: index of the layer.
            hidden: (1, N, H).
            rotations: rotations of these tokens.
            only_keys: hidden states (1, tokens, H) and rotations of further tokens, which are keys
                and values only. The layers must accept them, see
                `epalm.model.engine.packed_attention.add_only_keys`.
            arguments: arguments of the attention function.
        """
        kind = self.kinds[index].name
        if rotations:
            arguments["position_embeddings"] = rotations[kind]
        if only_keys is not None:
            states, own = only_keys
            arguments |= {"only_keys": states, "key_rotations": own.get(kind)}
        output = self.layers[index](hidden, **arguments)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result

    def before_head(self, states: Tensor) -> Tensor:
        """Apply final norm and projection: (..., H) to (..., w)."""
        for part in (self.final_norm, self.project_out):
            if part is not None:
                states = part(states)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Logits (..., vocabulary) from the head's input (..., w)."""
        return capped(self.head(states), self.logit_softcap)

    def set_dropout(self, probability: float) -> None:
        """Set the hidden dropout of all layers.

        Raises:
            ModelError: the probability is not 0, and the layers have no hidden dropout.
        """
        if probability and not self.dropout:
            raise ModelError(
                f"lm_dropout is {probability}, but the layers of {type(self.body).__name__} have "
                "no dropout: use lm_dropout 0"
            )
        for layer in self.layers:
            for name in self.dropout:
                _set_probability(layer, name, probability)


def capped(values: Tensor, bound: float | None) -> Tensor:
    """Values squeezed into (-bound, bound) by a hyperbolic tangent; the same ones without bound."""
    return values if bound is None else bound * torch.tanh(values / bound)


def decoder_parts(language_model: PreTrainedModel) -> DecoderParts:
    """The parts of a language model.

    Raises:
        ModelError: the model lacks a part, or has parts that the loop cannot use.
    """
    config, family = language_model.config, family_of(language_model.config)
    embedding, head = language_model.get_input_embeddings(), language_model.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Linear):
        raise ModelError(
            f"the {config.model_type} model has {type(embedding).__name__} and "
            f"{type(head).__name__} as word embedding and head, expected Embedding and Linear: "
            f"{supported()}"
        )
    body = _find(language_model.base_model, family.body, config)
    rotary = _find(body, family.rotary, config) if family.rotary else None
    layers = _find(body, family.layers, config)
    for name in (family.attention_output, family.ffn_output):
        _find(layers[0], name, config)
    per_kind = rotary is not None and "layer_type" in signature(rotary.forward).parameters
    return DecoderParts(
        body=body,
        layers=layers,
        word_embedding=embedding,
        head=head,
        project_in=_optional(body, family.project_in),
        project_out=_optional(body, family.project_out),
        final_norm=_find(body, family.final_norm, config),
        position_table=_optional(body, family.position_table),
        position_offset=family.position_offset,
        rotary=rotary,
        rotation_per_kind=per_kind,
        sublayers=(family.attention_output, family.ffn_output),
        dropout=family.dropout,
        **_shape(config),
    )


def _shape(config: PretrainedConfig) -> dict[str, Any]:
    """The fields of `DecoderParts` that the configuration determines."""
    heads = config.num_attention_heads
    return {
        "kinds": layer_kinds(config),
        "heads": heads,
        "key_value_heads": getattr(config, "num_key_value_heads", None) or heads,
        "head_width": getattr(config, "head_dim", None) or config.hidden_size // heads,
        "attention_softcap": getattr(config, "attn_logit_softcapping", None),
        "logit_softcap": getattr(config, "final_logit_softcapping", None),
    }


def layer_kinds(config: PretrainedConfig) -> tuple[LayerKind, ...]:
    """The kind of each layer; without `layer_types` in config.json, all layers have the window.

    Raises:
        ModelError: a layer has another kind than `FULL` and `SLIDING`.
    """
    window = getattr(config, "sliding_window", None)
    default = FULL if window is None else SLIDING
    names = getattr(config, "layer_types", None) or [default] * config.num_hidden_layers
    if other := sorted(set(names) - {FULL, SLIDING}):
        raise ModelError(
            f"the {config.model_type} model has layers of type {other[0]}; expected layers with "
            f"{FULL} or {SLIDING}: {supported()}"
        )
    return tuple(LayerKind(name, window if name == SLIDING else None) for name in names)


def supported() -> str:
    """The advice to use a supported family, for messages."""
    families = ", ".join(sorted(FAMILIES))
    return (
        f"use a language model of one of the families {families} "
        "(docs/reference/language_models.md)"
    )


def _find(module: nn.Module, name: str, config: PretrainedConfig) -> Any:  # noqa: ANN401 - a module
    try:
        return module.get_submodule(name)
    except AttributeError:
        if getattr(module, name, "") is None:  # e.g. the final norm of a post-norm OPT
            return None
        raise ModelError(
            f"the {config.model_type} model has no {name!r} in its {type(module).__name__}, so "
            f"visual tokens cannot be injected into it: {supported()}"
        ) from None


def _optional(module: nn.Module, name: str) -> Any:  # noqa: ANN401 - a module or none
    return getattr(module, name) if name else None


def _set_probability(layer: nn.Module, name: str, probability: float) -> None:
    owner, _, attribute = name.rpartition(".")
    module = layer.get_submodule(owner)
    part = getattr(module, attribute)
    if isinstance(part, nn.Dropout):
        part.p = probability
    else:
        setattr(module, attribute, probability)
