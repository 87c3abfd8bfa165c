"""Builds the model from its settings: frozen language model, trained parts, injection plan."""

from collections.abc import Callable, Sequence

from torch import nn
from transformers import PreTrainedModel

from epalm.errors import UsageError
from epalm.model.engine.language_model import load_language_model
from epalm.model.epalm import EPALM, TRAINED
from epalm.model.families.decoder_parts import decoder_parts
from epalm.model.method.adapter import Adapters
from epalm.model.method.connector import Connectors
from epalm.model.method.injection import (
    CANNOT_GENERATE,
    InjectionPlan,
    parse_span,
    plan_injection,
    upper_span,
)
from epalm.model.method.joined_connectors import AnyConnectors, JoinedConnectors, StoreConnectors
from epalm.model.method.model_settings import ModelSettings, SourceSettings
from epalm.model.method.prompt import DeepPrompt, SoftPrompt
from epalm.model.method.resampler import Resampler
from epalm.model.method.variants import INPUT_SPAN, Variant, find_variant
from epalm.model.text.text_encoder import TextEncoder
from epalm.model.text.tokenizer import load_tokenizer


def build_model(
    settings: ModelSettings,
    device: str = "cpu",
    *,
    shard: Callable[[nn.Module], object] | None = None,
    lm: PreTrainedModel | None = None,
) -> tuple[EPALM, TextEncoder]:
    """The model with newly initialized trained parts, and the encoder of its texts.

    Args:
        settings: settings of the model.
        device: device of the model.
        shard: called with each loaded decoder layer, see `load_language_model`.
        lm: the frozen language model on the device; None to load it.

    Raises:
        UsageError: a setting does not fit the language model.
        ModelError: the language model or its tokenizer cannot be used.
    """
    if lm is None:
        lm = load_language_model(settings.lm, settings.precision, device, shard=shard)
    text = TextEncoder.create(load_tokenizer(settings.lm), settings.text_template(), lm.config)
    lm.config.eos_token_id, lm.config.pad_token_id = list(text.ends), text.pad
    model = assemble(lm, settings)
    if not model.plan.can_generate:
        raise UsageError(CANNOT_GENERATE)
    return model.to(device), text


def assemble(lm: PreTrainedModel, settings: ModelSettings) -> EPALM:
    """The model around a frozen language model, with newly initialized trained parts.

    Raises:
        UsageError: a setting does not fit the language model.
    """
    variant = find_variant(settings.variant)
    _check_trainable(variant, settings)
    layers, width = lm.config.num_hidden_layers, lm.config.hidden_size
    connectors, feature_indices, used = _make_connectors(variant, settings, width)
    plan = _make_plan(layers, variant, settings, used)
    prompt = _make_prompt(lm, variant, settings.prompt_length, plan)
    factor = variant.adapter_factor
    trained_from = plan.first if variant.late else 0
    return EPALM(
        lm,
        connectors,
        prompt,
        plan,
        adapters=Adapters(layers, width, factor, first=trained_from) if factor else None,
        lm_dropout=settings.lm_dropout,
        feature_indices=feature_indices,
        trained=(*TRAINED, "language_model") if variant.language_model == "trained" else TRAINED,
        only_keys=variant.late,
    )


def _make_connectors(
    variant: Variant, settings: ModelSettings, language_width: int
) -> tuple[AnyConnectors, Sequence[int] | None, int]:
    """The maps from the encoders' widths to the language model's.

    Returns:
        The maps, indices of the stored features that they read (None for a whole row), and the
        number of features for the injection plan.
    """
    sources = settings.sources or (settings.first_source(),)
    stores = [_store_connectors(variant, settings, source, language_width) for source in sources]
    if not settings.sources:
        only = stores[0]
        return only.maps, only.indices, _feature_count(variant, only.source)
    side_by_side = variant.features != "all"
    if side_by_side and settings.tail == "official":
        raise UsageError(
            "tail 'official' needs a single visual token, and the tokens of several stores are "
            "side by side: use tail 'causal'"
        )
    count = 1 if side_by_side else sum(_feature_count(variant, source) for source in sources)
    return JoinedConnectors(stores, side_by_side=side_by_side), None, count


def _store_connectors(
    variant: Variant, settings: ModelSettings, source: SourceSettings, language_width: int
) -> StoreConnectors:
    """The maps of one store, and the indices of the features that they read."""
    indices, tokens = _used_features(variant, settings, source)
    maps: Connectors | Resampler
    if variant.connectors == "resampler":
        maps = Resampler(source.encoder_width, language_width, settings.resampler)
    else:
        count = len(indices) // tokens if variant.connectors == "each" else 1
        maps = Connectors(source.encoder_width, language_width, count, visual_tokens=tokens)
    return StoreConnectors(maps, source, indices)


def _feature_count(variant: Variant, source: SourceSettings) -> int:
    """Number of features of a store that the injection plan has."""
    return len(source.blocks) if variant.features == "all" else 1


def _used_features(
    variant: Variant, settings: ModelSettings, source: SourceSettings
) -> tuple[list[int], int]:
    """Indices of the stored features that are used, and the number of tokens of each feature.

    Raises:
        UsageError: the variant needs features that the store does not have.
    """
    every = variant.features == "tokens"
    tokens = source.positions if every else source.injected_tokens
    if every and tokens == 1:
        raise UsageError(
            f"variant {settings.variant!r} reads all tokens of a block, the store has one: extract "
            "with `epalm-extract --tokens all`, or a grid such as `--tokens pool:4x4`"
        )
    if tokens > 1 and settings.tail == "official":
        raise UsageError(
            f"tail 'official' needs a single visual token, found {tokens} for each block of the "
            "store: use tail 'causal'"
        )
    used = source.blocks if variant.features == "all" else source.blocks[-1:]
    starts = [block * source.positions for block in used]
    return [start + token for start in starts for token in range(tokens)], tokens


def _check_trainable(variant: Variant, settings: ModelSettings) -> None:
    if variant.language_model == "trained" and settings.precision != "fp32":
        raise UsageError(
            f"variant {settings.variant!r} trains the language model, whose small updates would "
            f"be rounded away in {settings.precision}: use --precision fp32"
        )


def _make_plan(layers: int, variant: Variant, settings: ModelSettings, used: int) -> InjectionPlan:
    """The injection plan for the last `used` of the cached features."""
    cached = used if variant.features == "all" else settings.cached
    span = parse_span(settings.inject, layers, cached)
    if settings.inject == "auto" and variant.span != "auto":
        span = upper_span(layers, cached) if variant.span == "upper" else INPUT_SPAN
    return plan_injection(
        layers,
        used,
        first=span[0],
        stop=span[1],
        tail=settings.tail,
        text_step=settings.text_step,
    )


def _make_prompt(
    lm: PreTrainedModel, variant: Variant, length: int, plan: InjectionPlan
) -> SoftPrompt | DeepPrompt | None:
    if variant.prompt == "none" or not length:
        return None
    layers, width = lm.config.num_hidden_layers, lm.config.hidden_size
    first = plan.first if variant.late else 0
    if variant.prompt == "deep":
        return DeepPrompt(layers, length, width, first=first)
    layer = plan.first if variant.late else None
    width = width if variant.late else decoder_parts(lm).word_embedding.embedding_dim
    return SoftPrompt(length, width, hidden=width if variant.prompt == "mlp" else 0, layer=layer)
